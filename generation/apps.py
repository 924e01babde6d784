from django.apps import AppConfig


class GenerationConfig(AppConfig):
    name = "generation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what forgets cached rows when they change, and what writes changes down."""
        from generation.accounts import invalidation as _accounts  # noqa: F401  # receivers of signals
        from generation.catalogue import invalidation as _catalogue  # noqa: F401
        from generation.telemetry import audit

        audit.register_tables()
