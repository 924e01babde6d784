"""LoRAs: upload, enable, disable, delete, and how often each was used."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget

from generation.accounts.models import User
from generation.admin.base import StaffAdmin
from generation.catalogue import loras
from generation.catalogue.models import Lora
from imagegenx_site.errors import InvalidRequest
from storage.store import lora_files


class UploadForm(forms.ModelForm):
    """A new version. The file is received and checked as by the API; each fault is shown at its field."""

    name = forms.CharField(
        max_length=50,
        help_text="Lowercase letters, digits, - and _. An existing name gets a new version.",
        widget=UnfoldAdminTextInputWidget,
    )
    file = forms.FileField(
        help_text="A .safetensors file that contains LoRA weights only.", widget=UnfoldAdminFileFieldWidget
    )

    class Meta:
        model = Lora
        fields = ("name", "base_family", "owner")

    def clean(self) -> dict[str, Any]:
        """Receive the file if all other fields are valid."""
        values: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                self.instance = self._receive(values)
            except InvalidRequest as error:
                for fault in error.faults:
                    self.add_error(fault.field if fault.field in self.fields else None, fault.message)
        return values

    def _receive(self, values: dict[str, Any]) -> Lora:
        owner: User | None = values.get("owner")
        file: UploadedFile = values["file"]
        return loras.receive(
            values["name"],
            file.chunks(1 << 20),
            owner=owner,
            family=values["base_family"],
            files=lora_files(),
            max_bytes=settings.MAX_LORA_BYTES,
        )

    def _post_clean(self) -> None:
        """Does nothing: `loras.receive` has created the row, and the form must not set its values."""


@admin.register(Lora)
class LoraAdmin(StaffAdmin):
    """Only title and state of a version change. Its row is never deleted, so that no version number is reused."""

    list_display = (
        "name",
        "version",
        "title",
        "base_family",
        "rank",
        "megabytes",
        "state",
        "uses",
        "owner",
        "created_at",
    )
    list_filter = ("state", "base_family")
    list_select_related = ("owner",)
    search_fields = ("name", "sha256")
    actions = ("enable", "disable", "withdraw")
    autocomplete_fields = ("owner",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = UploadForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("name", "base_family", "owner", "file")
        return ("title", *self.get_readonly_fields(request, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        facts = ("name", "version", "base_family", "owner", "state", "reason", "uses", "triggers", "rank", "bytes")
        return (*facts, "sha256", "source", "created_at")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"base_family": "sd15"}

    def save_model(self, request: HttpRequest, obj: Lora, form: Any, change: bool) -> None:
        if change:  # a new row was written when its file was received
            super().save_model(request, obj, form, change)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="MB", ordering="bytes")
    def megabytes(self, lora: Lora) -> str:
        return f"{lora.bytes / 1e6:.1f}"

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        self._switch(request, queryset.exclude(state=Lora.State.REFUSED), Lora.State.ACTIVE)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        self._switch(request, queryset, Lora.State.DISABLED)

    @admin.action(description="Delete (no longer available to anyone)", permissions=["change"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        self._switch(request, queryset, Lora.State.DELETED)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Lora], state: str) -> None:
        rows = list(queryset.exclude(state=state))
        for row in rows:  # one by one: each save is audited and drops the row from the caches
            row.state = state
            row.save(update_fields=["state"])
        self.message_user(request, f"{len(rows)} LoRA(s) set to {state}. Queued tasks still use them.")
