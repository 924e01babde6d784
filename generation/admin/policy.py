"""Content policy: blocked terms, profiles and refusals."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from generation.admin.base import CappedPaginator, HelpTextAdmin, ReadOnlyMixin, StaffAdmin, choice_filter
from generation.catalogue.kinds import task_kinds
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyProfile, PolicyRefusal

PROFILE_REASONS = ("policy_style", "policy_model", "policy_subject", "policy_no_checker")


class PolicyAdmin(HelpTextAdmin):
    """A change applies in this process at once, in the others within seconds."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        rules.reload()


@admin.register(PolicyProfile)
class PolicyProfileAdmin(PolicyAdmin):
    list_display = ("name", "title", "child_safe_styles", "check_images", "model_names", "subjects")


@admin.register(BlockedTerm)
class BlockedTermAdmin(PolicyAdmin):
    list_display = ("term", "reason", "profile", "api_key", "enabled")
    list_filter = ("reason", "profile", "enabled")
    list_editable = ("enabled",)
    list_select_related = ("profile", "api_key")
    autocomplete_fields = ("api_key",)
    search_fields = ("term",)
    help_texts: ClassVar = {"reason": "The client gets it as the error code, after `policy_`."}


@admin.register(PolicyRefusal)
class PolicyRefusalAdmin(ReadOnlyMixin, StaffAdmin):
    list_display = ("created_at", "reason", "rule", "kind", "user", "api_key")
    list_filter = (
        choice_filter("reason", lambda: [(word, word) for word in refusal_reasons()]),
        choice_filter("kind", lambda: [(kind, kind) for kind in task_kinds()]),
    )
    ordering = ("-id",)
    sortable_by = ()
    list_select_related = ("user", "api_key")
    show_full_result_count = False
    paginator = CappedPaginator


def refusal_reasons() -> list[str]:
    """The codes of refusals: those of the profiles, and one for each reason of a blocked term."""
    reasons = BlockedTerm.objects.order_by("reason").values_list("reason", flat=True).distinct()
    return [*PROFILE_REASONS, *(f"policy_{reason}" for reason in reasons)]
