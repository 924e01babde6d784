"""What operators see and change: tasks, catalogue, accounts, webhooks."""

from generation.admin import accounts, catalogue, tasks, webhooks

__all__ = ["accounts", "catalogue", "tasks", "webhooks"]
