"""The admin's pages: they show all rows that services own, read-only, and can cancel experiments and steer groups."""

from django.contrib import admin

from experiments.admin import experiment, group, measurements, worker

__all__ = ["experiment", "group", "measurements", "worker"]

admin.site.site_header = "Galileo"
admin.site.site_title = "Galileo"
admin.site.index_title = "Experiments"
