"""Addresses of ComfyUI's API: at the root for scripts, below /api for its own page and newer clients."""

from django.urls import include, path

from generation.compat.comfyui import views

_paths = [
    path("prompt", views.ComfyPromptView.as_view()),
    path("history", views.ComfyHistoryView.as_view()),
    path("history/<uuid:prompt_id>", views.ComfyHistoryView.as_view()),
    path("queue", views.ComfyQueueView.as_view()),
    path("interrupt", views.ComfyInterruptView.as_view()),
    path("view", views.ComfyPictureView.as_view()),
    path("upload/image", views.ComfyUploadView.as_view()),
    path("object_info", views.ComfyObjectInfoView.as_view()),
    path("object_info/<str:name>", views.ComfyObjectInfoView.as_view()),
    path("models", views.ComfyModelsView.as_view()),
    path("models/<str:folder>", views.ComfyModelsView.as_view()),
    path("embeddings", views.ComfyFixedView.as_view(body=[])),
    path("system_stats", views.ComfyFixedView.as_view(body=views.STATS)),
]
urlpatterns = [*_paths, path("api/", include(_paths))]
