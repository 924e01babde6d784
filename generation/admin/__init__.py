"""What operators see and change: tasks, catalogue, accounts, webhooks."""

from generation.admin import accounts, catalogue, policy, tasks, webhooks

__all__ = ["accounts", "catalogue", "policy", "tasks", "webhooks"]
