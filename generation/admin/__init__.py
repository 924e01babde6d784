"""What operators see and change: tasks, catalogue, accounts, webhooks."""

from generation.admin import accounts, audit, catalogue, loras, policy, tasks, webhooks

__all__ = ["accounts", "audit", "catalogue", "loras", "policy", "tasks", "webhooks"]
