"""Addresses of the AI Horde's API: its clients are given the base URL http://host:8000/api."""

from django.urls import path

from generation.compat.horde import views

urlpatterns = [
    path("api/v2/generate/async", views.HordeGenerateView.as_view()),
    path("api/v2/generate/check/<uuid:job>", views.HordeCheckView.as_view()),
    path("api/v2/generate/status/<uuid:job>", views.HordeStatusView.as_view()),
    path("api/v2/find_user", views.HordeUserView.as_view()),
    path("api/v2/status/models", views.HordeModelsView.as_view()),
    path("api/v2/status/heartbeat", views.HordeHeartbeatView.as_view()),
]
