"""Addresses below /oauth/: where applications get and give back tokens, and users allow them."""

from django.urls import path
from oauth2_provider import views

urlpatterns = [
    path("authorize/", views.AuthorizationView.as_view(), name="authorize"),
    path("token/", views.TokenView.as_view(), name="token"),
    path("revoke_token/", views.RevokeTokenView.as_view(), name="revoke-token"),
]
