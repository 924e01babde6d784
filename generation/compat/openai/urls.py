"""Addresses of OpenAI's Images API, below the base URL that its clients are given: /v1."""

from django.urls import path

from generation.compat.openai import views

urlpatterns = [
    path("v1/images/generations", views.GenerationsView.as_view()),
    path("v1/images/edits", views.EditsView.as_view()),
    path("v1/images/variations", views.VariationsView.as_view()),
    path("v1/models", views.OpenAiModelsView.as_view()),
    path("v1/models/<str:name>", views.OpenAiModelView.as_view()),
]
