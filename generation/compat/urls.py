"""Addresses of the compatible interfaces. They stand at the root, where their programs look for them."""

from django.urls import include, path

urlpatterns = [
    path("", include("generation.compat.openai.urls")),
    path("", include("generation.compat.a1111.urls")),
    path("", include("generation.compat.horde.urls")),
    path("", include("generation.compat.comfyui.urls")),
]
