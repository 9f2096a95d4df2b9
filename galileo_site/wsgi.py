"""WSGI entry point: `gunicorn galileo_site.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")

application = get_wsgi_application()
