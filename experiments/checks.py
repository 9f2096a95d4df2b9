"""What `manage.py check --deploy` says of Galileo's own settings."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

API_IS_OPEN = Warning(
    "galileo_api_auth is none: whoever reaches the web server may do everything under /api, and have code executed on "
    "the workers.",
    hint="Leave it at required, unless the server is reached from a closed network alone.",
    id="galileo.W001",
)


@register(Tags.security, deploy=True)
def check_api_auth(**_: Any) -> list[CheckMessage]:
    return [API_IS_OPEN] if settings.GALILEO_API_IS_OPEN else []
