"""Shared by the admin's pages: lists that stay fast on tables of any size, and read-only rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

_MOST_COUNTED: Final = 10_000  # rows; a count of the whole table would read every partition
Choices = Sequence[tuple[str, str]]


class CappedPaginator(Paginator):
    """Counts at most _MOST_COUNTED rows."""

    @cached_property
    def count(self) -> int:
        rows = cast(QuerySet, self.object_list)
        return len(rows[:_MOST_COUNTED].values_list("pk"))


def without_nul(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Refuses addresses of the admin with a NUL: Django's lists and searches hand it to Postgres, which has none."""

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/admin/") and "%00" in request.META.get("QUERY_STRING", ""):
            return HttpResponseBadRequest("The address has a NUL.\n", "text/plain")
        return get_response(request)

    return respond


class ReadOnlyMixin:
    """For rows that only the product creates and changes."""

    def has_add_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def has_change_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def has_delete_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False


class StaffAdmin(ModelAdmin):
    """Lists can be narrowed by what they show or filter by. Django takes every column of the table: with
    `?digest__startswith=a` who may see the list of keys would read their digests, digit by digit.
    """

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether the address of a list may name this lookup."""
        filters = [one[0] if isinstance(one, tuple) else one for one in self.list_filter]
        names = [getattr(one, "parameter_name", one) for one in filters]
        shown = {str(one).partition("__")[0] for one in ("pk", "id", *self.list_display, *names)}
        return lookup.partition("__")[0] in shown and super().lookup_allowed(lookup, value, request)


class HelpTextAdmin(StaffAdmin):
    """A form with help texts of its own, by field. Those of the models are part of the migrations."""

    help_texts: ClassVar[Mapping[str, str]] = {}

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, help_texts=self.help_texts, **kwargs)


def choice_filter(name: str, choices: Callable[[], Choices]) -> type[admin.SimpleListFilter]:
    """A filter with known values. Django's own filter would read the distinct values from the whole table."""

    class ChoiceFilter(admin.SimpleListFilter):
        title = name
        parameter_name = name

        def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
            return choices()

        def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
            known = {value for value, _ in self.lookup_choices}
            return queryset.filter(**{name: self.value()}) if self.value() in known else queryset

    return ChoiceFilter
