"""Addresses below /api/v1/."""

from django.urls import path, register_converter

from generation.api import (
    accounts,
    batches,
    catalogue,
    downloads,
    event_stream,
    history,
    loras,
    openapi_schema,
    outputs,
    tasks,
    webhooks,
)
from generation.api.previews import pictures
from generation.api.sorting import boards, marks, sheet
from generation.api.team import members
from generation.catalogue.kinds import KINDS

AUTHENTICATION = openapi_schema.KeyScheme  # drf-spectacular learns of our authentication when its class is imported


class UuidText:
    """A UUID in its dashed form."""

    regex = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: object) -> str:
        return str(value)


register_converter(UuidText, "uuidtext")

urlpatterns = [
    *(path(f"image/{kind.path}", tasks.submit_view(kind).as_view(), name=kind.path) for kind in KINDS.values()),
    path("image/batch/<str:public_id>", batches.BatchView.as_view(), name="batch"),
    path("image/batch/<str:public_id>/cancel", batches.BatchCancelView.as_view(), name="batch-cancel"),
    path("image/batch/<str:public_id>/download", batches.BatchDownloadView.as_view(), name="batch-download"),
    path("image/tasks", history.HistoryView.as_view(), name="tasks"),
    path("image/download", downloads.DownloadView.as_view(), name="download"),
    path("image/task/<str:public_id>", tasks.TaskDetailView.as_view(), name="task"),
    path("image/task/<str:public_id>/cancel", tasks.CancelView.as_view(), name="task-cancel"),
    path("image/task/<str:public_id>/retry", tasks.RetryView.as_view(), name="task-retry"),
    path("image/task/<str:public_id>/image", outputs.TaskImageView.as_view(), name="task-image"),
    path("image/task/<str:public_id>/events", event_stream.task_events, name="task-events"),
    path("image/task/<str:public_id>/events/token", event_stream.EventTokenView.as_view(), name="task-events-token"),
    path("image/preview", pictures.PreviewView.as_view(), name="preview"),
    path("image/marks", marks.MarksView.as_view(), name="marks"),
    path("image/sheet", sheet.SheetView.as_view(), name="sheet"),
    path("boards", boards.BoardsView.as_view(), name="boards"),
    path("boards/<str:board_id>", boards.BoardView.as_view(), name="board"),
    path("boards/<str:board_id>/pictures", boards.BoardPicturesView.as_view(), name="board-pictures"),
    path("team", members.TeamView.as_view(), name="team"),
    path("team/members/<str:username>", members.MemberView.as_view(), name="member"),
    path("models", catalogue.ModelsView.as_view(), name="models"),
    path("styles", catalogue.StylesView.as_view(), name="styles"),
    path("plans", catalogue.PlansView.as_view(), name="plans"),
    path("usage", accounts.UsageView.as_view(), name="usage"),
    path("account", accounts.AccountView.as_view(), name="account"),
    path("keys", accounts.KeysView.as_view(), name="keys"),
    path("keys/<str:prefix>", accounts.KeyView.as_view(), name="key"),
    path("keys/<str:prefix>/rotate", accounts.KeyRotateView.as_view(), name="key-rotate"),
    path("webhooks", webhooks.EndpointsView.as_view(), name="webhooks"),
    path("webhooks/<int:pk>", webhooks.EndpointView.as_view(), name="webhook"),
    path("webhooks/<int:pk>/rotate", webhooks.RotateSecretView.as_view(), name="webhook-rotate"),
    path("webhooks/<int:pk>/deliveries", webhooks.DeliveriesView.as_view(), name="deliveries"),
    path("webhooks/deliveries/<uuidtext:delivery_id>/send", webhooks.RedeliverView.as_view(), name="redeliver"),
    path("lora", loras.LorasView.as_view(), name="loras"),
    path("lora/upload", loras.LoraUploadView.as_view(), name="lora-upload"),
    path("lora/<str:name>/<int:version>", loras.LoraView.as_view(), name="lora"),
    path("lora/<str:name>/<int:version>/enable", loras.LoraEnableView.as_view(), name="lora-enable"),
    path("lora/<str:name>/<int:version>/disable", loras.LoraDisableView.as_view(), name="lora-disable"),
]
