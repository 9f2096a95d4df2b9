"""URLs: the API under /api, the admin (the dashboard) everywhere else."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("api/routing", include("routing.urls")),
    path("api", include("experiments.api.urls")),  # last of these: it answers for every other path, too
    path("admin/", admin.site.urls),
    path("favicon.ico", RedirectView.as_view(url=static("experiments/favicon.svg"))),
    path("", RedirectView.as_view(url="/admin/")),
]
