"""Context processor: variables for the templates of all pages."""

from django.conf import settings
from django.http import HttpRequest


def api_access(request: HttpRequest) -> dict[str, bool]:
    """Returns whether the API is open to everyone; the header of each page then shows a warning."""
    return {"api_is_open": settings.GALILEO_API_IS_OPEN}
