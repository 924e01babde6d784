"""Addresses of the compatible interfaces. They stand at the root, where their programs look for them."""

from django.urls import include, path

from generation.compat import children

urlpatterns = [
    path("generate", children.ChildrenGenerateView.as_view()),
    path("status/<str:public_id>", children.ChildrenStatusView.as_view()),
    path("result/<str:public_id>.png", children.ChildrenResultView.as_view()),
    path("health", children.health),
    path("", include("generation.compat.openai.urls")),
    path("", include("generation.compat.a1111.urls")),
    path("", include("generation.compat.horde.urls")),
    path("", include("generation.compat.comfyui.urls")),
]
