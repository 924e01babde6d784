"""The audit log (generation/telemetry/audit.py)."""

from auditlog.models import LogEntry
from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from generation.admin.base import CappedPaginator, ReadOnlyMixin, StaffAdmin, choice_filter
from generation.telemetry.audit import AUDITED

admin.site.unregister(LogEntry)  # auditlog's own page does not have the look of the others

_SHOWN = 80  # characters of a value in the list


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyMixin, StaffAdmin):
    list_display = ("timestamp", "actor", "action", "what", "object_repr", "changed")
    list_filter = (
        "action",
        choice_filter(
            "content_type__model", lambda: [(model._meta.model_name or "", model.__name__) for model in AUDITED]
        ),
    )
    list_select_related = ("content_type", "actor")
    search_fields = ("object_repr", "actor__username")
    sortable_by = ()
    ordering = ("-id",)
    show_full_result_count = False
    paginator = CappedPaginator
    fields = ("timestamp", "actor", "remote_addr", "action", "what", "object_repr", "changed")
    readonly_fields = fields

    @admin.display(description="table")
    def what(self, entry: LogEntry) -> str:
        return str(entry.content_type.name)

    @admin.display(description="changes")
    def changed(self, entry: LogEntry) -> SafeString:
        rows = ((name, _short(before), _short(after)) for name, (before, after) in (entry.changes or {}).items())
        return format_html_join("", "<div><b>{}</b>: {} → {}</div>", rows)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
