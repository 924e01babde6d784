"""Models and styles."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, Style


class CatalogueAdmin(ModelAdmin):
    """A change applies in this process at once, in the others within seconds."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        snapshot.reload()


@admin.register(ImageModel)
class ImageModelAdmin(CatalogueAdmin):
    list_display = ("name", "title", "family", "revision", "precision", "enabled", "position", "fallback")
    list_filter = ("family", "enabled")
    search_fields = ("name", "title")


@admin.register(Style)
class StyleAdmin(CatalogueAdmin):
    list_display = ("name", "title", "title_zh", "prompt", "child_safe", "enabled", "position")
    list_filter = ("enabled", "child_safe")
    list_editable = ("enabled", "position")
    search_fields = ("name", "title", "title_zh", "prompt")
