"""The addresses of the web process: those of the product, and the pictures of the store."""

from django.urls import include, path

handler404 = "generation.api.envelope.not_found"
handler500 = "generation.api.envelope.server_error"

urlpatterns = [path("", include("generation.urls")), path("", include("storage.urls"))]
