"""The plan that binds a key."""

from generation.accounts.models import ApiKey, Plan
from imagegenx_site.errors import Fault, InvalidRequest


def plan_of(api_key: ApiKey) -> Plan:
    """The plan that binds a key. Raises InvalidRequest when an operator has bound neither the key nor its team to
    one.
    """
    plan = api_key.effective_plan
    if plan is None:
        raise InvalidRequest(
            [Fault("key", "no_plan", "This key has no plan. Ask the operator to bind it or its team to one.")]
        )
    return plan
