"""Plans, teams, users and keys."""

from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from generation.accounts import second_factor
from generation.accounts.models import ApiKey, Plan, Team, User
from generation.admin.base import HelpTextAdmin, StaffAdmin
from generation.admission import failures

_RIGHTS: Final = ("is_staff", "is_superuser", "groups", "user_permissions")


admin.site.unregister(Group)  # Django's own lets everybody who may change groups give themselves all rights


@admin.register(Plan)
class PlanAdmin(HelpTextAdmin):
    list_display = (
        "name",
        "title",
        "paid",
        "max_side",
        "max_images",
        "priority_cap",
        "requests_per_second",
        "daily_images",
    )
    help_texts: ClassVar = {
        "paid": "In a surge, requests of paid plans are neither made smaller nor refused.",
        "max_images": "Images per request.",
        "kinds": "Task kinds that may be requested.",
        "super_resolution": "Allow the upscale step of post-processing.",
        "lora_upload": "Allow uploads of LoRAs.",
        "priority_cap": "Highest priority that may be requested: 0 (P0, urgent) to 3 (P3, test).",
        "priority_default": "Priority of requests that name none.",
        "requests_per_second": "Counted per API key, and per user and IP address.",
        "concurrent_tasks": "Open tasks per user. Empty: no limit.",
        "daily_images": "Images per user and day (UTC). Empty: no limit.",
        "daily_megapixel_steps": "Work per user and day (UTC): megapixels times steps. Empty: no limit.",
    }


@admin.register(Team)
class TeamAdmin(StaffAdmin):
    list_display = ("name", "plan", "created_at")
    list_filter = ("plan",)
    search_fields = ("name",)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, StaffAdmin):
    """Rights of staff, and everything of those who have any, their passwords too, are a superuser's to change."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "team", "role", "email", "is_active", "is_staff", "last_login")
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), ("Team", {"fields": ("team", "role")}))
    actions = ("unlock", "switch_off_factor")

    @admin.action(description="Switch off the second factor (device lost)", permissions=["change"])
    def switch_off_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        mine = [user for user in queryset if self.has_change_permission(request, user)]
        found = sum(second_factor.switch_off(user) for user in mine)
        self.message_user(request, f"{found} user(s) log in without a code now.")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if request.user.is_superuser else (*found, *_RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    @admin.action(description="Forget failed logins", permissions=["change"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        found = sum(failures.unlock(user.username) > 0 for user in queryset)
        self.message_user(request, f"{found} user(s) had failed logins; they can log in again at once.")


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    return user is None or request.user.is_superuser or not (user.is_staff or user.is_superuser)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, StaffAdmin):
    """Changed by superusers."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(ApiKey)
class ApiKeyAdmin(HelpTextAdmin):
    """A new key is shown once, after saving. It never changes hands."""

    list_display = ("name", "prefix", "user", "plan", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("plan",)
    search_fields = ("name", "prefix", "user__username")
    list_select_related = ("user", "plan")
    autocomplete_fields = ("user",)
    readonly_fields = ("prefix", "last_used_at", "created_at", "revoked_at")
    actions = ("revoke",)
    help_texts: ClassVar = {
        "profile": "Restricts what may be generated.",
        "must_sign": "Accept only signed requests.",
        "expires_at": "Empty: never.",
    }

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        chosen = ("name", "plan", "scopes", "expires_at", "profile", "must_sign")
        row, text = ApiKey.make(obj.user, **{name: getattr(obj, name) for name in chosen})
        obj.pk, obj.prefix = row.pk, row.prefix
        self.message_user(request, f"Copy the key now, it can't be shown again: {text}", messages.WARNING)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return (*found, "user") if obj else found

    @admin.action(description="Revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        valid = list(queryset.filter(revoked_at=None))
        for key in valid:  # one by one: the audit log records saved rows, not an UPDATE
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at"])
        self.message_user(request, f"{len(valid)} key(s) revoked.")
