"""What operators see and change: tasks, catalogue, accounts, webhooks."""

from generation.admin import accounts, alerts, audit, catalogue, loras, policy, tasks, webhooks

__all__ = ["accounts", "alerts", "audit", "catalogue", "loras", "policy", "tasks", "webhooks"]
