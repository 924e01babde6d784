"""The priority of a request: 0 (P0, urgent) to 3 (P3, test), bounded by its plan."""

from generation.accounts.models import Plan


def choose(plan: Plan, asked: int | None) -> int:
    """What the request asks for, else the plan's default. accounts/plans.py has refused what is above the plan."""
    return plan.priority_default if asked is None else asked


def lowered(plan: Plan, priority: int) -> int:
    """The priority of an earlier task, within this plan."""
    return max(priority, plan.priority_cap)
