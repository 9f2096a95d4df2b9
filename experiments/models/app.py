"""Client apps of the repository, and their versions."""

from django.db import models
from django.db.models import Q


class ClientApp(models.Model):
    """An app that was uploaded; each upload of another archive is a version of it, and the newest one is what a new
    experiment gets."""

    name = models.CharField(max_length=63, unique=True)
    created = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        default_permissions = ("view", "delete")
        permissions = [("upload_clientapp", "Can upload client apps, which are code that workers execute")]

    def __str__(self) -> str:
        return self.name


class ClientAppVersion(models.Model):
    """An archive of an app; the file lies in `galileo_apps_repo_dir` under its digest."""

    app = models.ForeignKey(ClientApp, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(help_text="counted from 1")
    digest = models.CharField(max_length=64, db_index=True, help_text="SHA-256 of the archive")
    manifest = models.JSONField()
    archive_bytes = models.PositiveIntegerField()
    unpacked_bytes = models.PositiveIntegerField()
    creator = models.CharField(max_length=191)
    created = models.DateTimeField()

    class Meta:
        ordering = ["app", "-number"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(name="app_version_unique", fields=["app", "number"]),
            models.CheckConstraint(name="app_version_positive", condition=Q(number__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.app} {self.number}"
