"""WSGI entry point: `gunicorn galileo_site.wsgi`."""

import logging
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")

application = get_wsgi_application()
if settings.GALILEO_API_IS_OPEN:
    logging.getLogger(__name__).warning(
        "galileo_api_auth=none: whoever reaches this server may do everything under /api, "
        "and have code executed on the workers"
    )
