from django.apps import AppConfig


class GenerationConfig(AppConfig):
    name = "generation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what forgets cached rows when they change, and what writes changes down."""
        from generation import audit, invalidation  # noqa: F401  # invalidation: its receivers

        audit.connect()
