"""The plan of a key, and what it does not allow."""

from typing import Final

from generation.accounts.models import ApiKey, Plan
from imagegenx_site.errors import Fault, InvalidRequest

MOST_SCALE: Final = 4  # by which super-resolution enlarges at most


def plan_of(api_key: ApiKey) -> Plan:
    """Raises InvalidRequest when neither the key nor its team has a plan."""
    plan = api_key.effective_plan
    if plan is None:
        raise InvalidRequest(
            [Fault("key", "no_plan", "This key has no plan. Ask the operator to bind it or its team to one.")]
        )
    return plan


def enlarged(sides: tuple[int, int], scale: int) -> tuple[int, int]:
    """The size of a picture that was enlarged."""
    return sides[0] * scale, sides[1] * scale


def faults(
    plan: Plan,
    *,
    kind: str | None = None,
    sides: tuple[int, int] | None = None,
    finished: tuple[int, int] | None = None,
    images: int = 0,
    upscale: bool = False,
    priority: int | None = None,
) -> list[Fault]:
    """What of a request is above the plan; nothing is said of what is left out. `finished`: the size of a picture that
    is only processed, which may be as large as the largest that the plan's own become. Quotas are counted elsewhere
    (generation/admission/quotas.py).
    """
    above: dict[str, str] = {}
    if kind is not None and kind not in plan.kinds:
        above["kind"] = f"Your plan does not include {kind}."
    if sides is not None and max(sides) > plan.max_side:
        above["params.resolution"] = f"Your plan allows up to {plan.max_side} pixels a side."
    most = plan.max_side * MOST_SCALE
    if finished is not None and max(finished) > most:
        made = f"{finished[0]}x{finished[1]}"
        above["image"] = f"Your plan allows finished pictures of up to {most} pixels a side; this would have {made}."
    if images > plan.max_images:
        above["params.num_images"] = f"Your plan allows up to {plan.max_images} pictures a request."
    if upscale and not plan.super_resolution:
        above["params.postprocess"] = "Your plan does not include super-resolution."
    if priority is not None and priority < plan.priority_cap:
        above["priority"] = f"Your plan allows priority {plan.priority_cap} to 3."
    return [Fault(field, "above_plan", message) for field, message in above.items()]
