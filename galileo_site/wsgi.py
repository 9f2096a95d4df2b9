"""WSGI entry point: `gunicorn galileo_site.wsgi`."""

import logging
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from galileo_site.environment import exit_if_wrong

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")

with exit_if_wrong():
    application = get_wsgi_application()
if settings.GALILEO_API_IS_OPEN:
    logging.getLogger(__name__).warning(
        "galileo_api_auth=none: everyone who can reach this server has full access to /api "
        "and can execute code on the workers"
    )
