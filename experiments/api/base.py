"""What the resources of the API share."""

from __future__ import annotations

from collections.abc import Iterable

from rest_framework.exceptions import NotFound
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from experiments.api import throttling
from experiments.api.permissions import ModelPermissions


class Negotiation(DefaultContentNegotiation):
    """A `?format=` that there is not is left to the check of the parameters, which names it."""

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        return [renderer for renderer in renderers if renderer.format == format] or list(renderers)


class View(APIView):
    """A resource; its `queryset` names the model for the permissions, and is never read."""

    permission_classes = [ModelPermissions]
    content_negotiation_class = Negotiation
    # Not OPTIONS: the schema tells what there is.
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    def perform_authentication(self, request: Request) -> None:
        """Counts the request, whoever makes it: passwords are not guessed at any rate."""
        try:
            super().perform_authentication(request)
        finally:
            throttling.admit(request)


def unknown_experiment(experiment_id: str) -> NotFound:
    return NotFound(f"There is no experiment {experiment_id}.")
