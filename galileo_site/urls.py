"""URLs: the API under /api, the admin under /admin/, to which the root redirects; and a variable of all templates."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("api", include("experiments.api.urls")),
    path("admin/", admin.site.urls),
    path("favicon.ico", RedirectView.as_view(url=static("experiments/favicon.svg"))),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]

# Handlers of Django's own errors; under /api they return problem documents.
handler400 = "experiments.api.problems.bad_request"
handler403 = "experiments.api.problems.forbidden"
handler404 = "experiments.api.problems.not_found"
handler500 = "experiments.api.problems.failed"


def api_access(request: HttpRequest) -> dict[str, bool]:
    """Context processor. Returns whether the API is open to everyone; each page then shows a warning."""
    return {"api_is_open": settings.GALILEO_API_IS_OPEN}
