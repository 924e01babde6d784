"""The pages of operators: tasks, catalogue, accounts, policy, webhooks, alerts."""

from generation.admin import accounts, alerts, audit, catalogue, loras, model_imports, policy, tasks, webhooks

__all__ = ["accounts", "alerts", "audit", "catalogue", "loras", "model_imports", "policy", "tasks", "webhooks"]
