"""The admin's pages: everything that services own is there to be read, and an experiment can be cancelled."""

from django.contrib import admin

from experiments.admin import app, experiment, group, telemetry, trace, worker

__all__ = ["app", "experiment", "group", "telemetry", "trace", "worker"]

admin.site.site_header = "Galileo"
admin.site.site_title = "Galileo"
admin.site.index_title = "Experiments"
