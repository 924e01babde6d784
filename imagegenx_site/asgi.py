"""The web process: Django over ASGI, with its static files in front so that they cost no database work."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

application = ASGIStaticFilesHandler(get_asgi_application())
