from django.apps import AppConfig


class GenerationConfig(AppConfig):
    name = "generation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what forgets cached rows when they change, what ends with an application, and what writes changes
        down.
        """
        from generation.accounts import invalidation as _accounts  # noqa: F401  # receivers of signals
        from generation.accounts import oauth as _oauth  # noqa: F401
        from generation.catalogue import invalidation as _catalogue  # noqa: F401
        from generation.telemetry import audit

        audit.register_tables()
