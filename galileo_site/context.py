"""What every page's template knows."""

from django.conf import settings
from django.http import HttpRequest


def api_access(request: HttpRequest) -> dict[str, bool]:
    return {"api_is_open": settings.GALILEO_API_IS_OPEN}
