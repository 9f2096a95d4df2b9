"""ClientApp and ClientAppVersion: the repository of client apps."""

from django.db import models
from django.db.models import Q


class ClientApp(models.Model):
    """An uploaded client app. Each upload of a different archive adds a version; new experiments get the newest."""

    name = models.CharField(max_length=63, unique=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        default_permissions = ("view", "delete")
        permissions = [("upload_clientapp", "Can upload client apps, which are code that workers execute")]

    def __str__(self) -> str:
        return self.name


class ClientAppVersion(models.Model):
    """One archive of an app. Its file is in `galileo_apps_repo_dir`, named by its digest."""

    app = models.ForeignKey(ClientApp, on_delete=models.CASCADE, db_index=False, related_name="versions")
    number = models.PositiveIntegerField(help_text="from 1")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the archive")
    manifest = models.JSONField()
    archive_bytes = models.PositiveIntegerField()
    unpacked_bytes = models.PositiveIntegerField()
    creator = models.CharField(max_length=191)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["app", "-number"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(name="app_version_unique", fields=["app", "number"]),
            models.CheckConstraint(name="app_version_positive", condition=Q(number__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.app} {self.number}"
