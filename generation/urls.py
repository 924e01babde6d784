"""The addresses of the web process: the doors of the product, and the pictures of the store (ROOT_URLCONF)."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerSplitView

from generation.admission.login_forms import LoginForm
from generation.api import health, openapi_schema
from generation.api.bounds import bodies
from generation.api.oauth import urlpatterns as oauth_urls
from generation.compat.comfyui import socket
from generation.page import oidc, sign_in, views
from generation.telemetry import prometheus

websockets = {
    "/ws": socket.serve,
    "/api/ws": socket.serve,
}  # ComfyUI's; all others are refused (imagegenx_site/asgi.py)
body_rules = bodies  # of the web process (imagegenx_site/web/bodies.py)
handler400 = "generation.compat.refusals.bad_request"
handler404 = "generation.compat.refusals.not_found"
handler500 = "generation.compat.refusals.server_error"

urlpatterns = [
    path("", views.create, name="create"),
    path("kids", views.kids, name="kids"),
    path("session", sign_in.session, name="page-session"),
    path("session/factor", sign_in.factor, name="second-factor"),
    path("api/v1/", include("generation.api.urls")),
    path("api/schema", openapi_schema.document, name="schema"),
    path(
        "api/docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", http_method_names=["get", "head"]),
        name="docs",
    ),
    path("", include("generation.compat.urls")),
    path("", include("storage.urls")),
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(authentication_form=LoginForm), name="login"),
    path("accounts/oidc/", oidc.start, name="oidc"),
    path("accounts/oidc/callback", oidc.callback, name="oidc-callback"),
    path("oauth/", include((oauth_urls, "oauth2_provider"))),
    path("healthz", health.live),
    path("healthz/workers", health.workers),
    path("readyz", health.ready),
    path("metrics", prometheus.metrics),
]
