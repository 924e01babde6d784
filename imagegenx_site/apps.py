from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Makes the Celery app the current one in every Django process, so that code below sends by name without
    importing it.
    """

    name = "imagegenx_site"

    def ready(self) -> None:
        from imagegenx_site import celery  # noqa: F401  # needs the settings, so not at the top
