"""Imports of models: files that lie in MODELS_DIR/.incoming, and what became of them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget

from generation.admin.base import StaffAdmin
from generation.catalogue.models import ModelImport
from generation.catalogue.presets import incoming


class ImportForm(forms.ModelForm):
    """The file is one of those that lie there."""

    file = forms.ChoiceField(widget=UnfoldAdminSelectWidget)

    class Meta:
        model = ModelImport
        fields = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = incoming.waiting_files()
        self.fields["file"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        here = "" if names else " Nothing is there now."
        self.fields["file"].help_text = f"Files and folders in {incoming.folder()}: put yours there first.{here}"


@admin.register(ModelImport)
class ModelImportAdmin(StaffAdmin):
    """Added to import, never changed."""

    form = ImportForm
    list_display = ("file", "name", "progress", "at")
    list_filter = ("state",)

    @admin.display(description="state")
    def progress(self, wanted: ModelImport) -> str:
        return f"{wanted.get_state_display()}{f': {wanted.note}' if wanted.note else ''}"

    def has_change_permission(self, request: HttpRequest, obj: ModelImport | None = None) -> bool:
        return False
