"""The web process: Django over ASGI, with its static files in front so that they cost no database work."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from imagegenx_site.threads import LastingThreads


def make_application() -> LastingThreads:
    """The web process as an ASGI application."""
    return LastingThreads(ASGIStaticFilesHandler(get_asgi_application()), settings.WEB_THREADS)


application = make_application()
