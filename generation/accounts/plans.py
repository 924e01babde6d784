"""The plan of a key."""

from generation.accounts.models import ApiKey, Plan
from imagegenx_site.errors import Fault, InvalidRequest


def plan_of(api_key: ApiKey) -> Plan:
    """Raises InvalidRequest when neither the key nor its team has a plan."""
    plan = api_key.effective_plan
    if plan is None:
        raise InvalidRequest(
            [Fault("key", "no_plan", "This key has no plan. Ask the operator to bind it or its team to one.")]
        )
    return plan
