"""The Django app."""

from django.apps import AppConfig


class RoutingConfig(AppConfig):
    """The routing table: records, their hosts, and all their versions."""

    name = "routing"
    label = "routing"
    verbose_name = "Routing"
    default_auto_field = "django.db.models.BigAutoField"
