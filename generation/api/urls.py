"""Addresses below /api/v1/."""

from django.urls import path

from generation.api.views import CancelView, SubmitView, TaskImageView, TaskView

urlpatterns = [
    path("image/generate", SubmitView.as_view(kind="text2img"), name="generate"),
    path("image/task/<str:public_id>", TaskView.as_view(), name="task"),
    path("image/task/<str:public_id>/cancel", CancelView.as_view(), name="task-cancel"),
    path("image/task/<str:public_id>/image", TaskImageView.as_view(), name="task-image"),
]
