from django.apps import AppConfig


class PostprocessingConfig(AppConfig):
    name = "postprocessing"
    default_auto_field = "django.db.models.BigAutoField"
