"""Which client app plays the clients of a service that a script spawns."""

from __future__ import annotations

from django.conf import settings

from experiments.plans.parser import APP_NAME


def client_app_of(service: str) -> str | None:
    """The client app of the service's name, as in the original, if there is one; None: the default HTTP client.

    It looks into the controller's own galileo_apps_dir, which is to hold what the workers' does.
    """
    folder = settings.SITE.apps_dir
    if folder is None or not APP_NAME.fullmatch(service):
        return None
    return service if (folder / service / "generator.py").is_file() else None
