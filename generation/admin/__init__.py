"""The pages of operators: tasks, catalogue, accounts, policy, webhooks, alerts."""

from django.contrib import admin

from generation.admin import accounts, alerts, audit, catalogue, loras, model_imports, policy, tasks, webhooks

admin.site.login_template = "admin/coded_login.html"

__all__ = ["accounts", "alerts", "audit", "catalogue", "loras", "model_imports", "policy", "tasks", "webhooks"]
