from typing import Any

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def name_version(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    """Plans stored before they named the version of their arrival processes have the first."""
    experiments: Any = apps.get_model("experiments", "Experiment").objects
    for experiment in experiments.only("plan").iterator():
        if experiment.plan:
            experiment.plan = {**experiment.plan, "arrivals_version": 1}
            experiment.save(update_fields=["plan"])


class Migration(migrations.Migration):
    dependencies = [("experiments", "0001_initial")]

    operations = [
        migrations.AddField("secondstats", "reasons", models.JSONField(default=dict)),
        migrations.AddField("secondstats", "resent", models.PositiveIntegerField(default=0)),
        migrations.AddField(
            "trace",
            "reason",
            models.PositiveSmallIntegerField(
                default=0, help_text="why the response is malformed: loadgen.protocol.outcomes.MalformedReason"
            ),
        ),
        migrations.AddField(
            "trace",
            "resent",
            models.PositiveSmallIntegerField(default=0, help_text="1 if the request was sent a second time"),
        ),
        migrations.AddField(
            "trace",
            "address",
            models.CharField(blank=True, default="", help_text="behind the host's name", max_length=64),
        ),
        migrations.AddField("secondstats", "addresses", models.JSONField(default=dict)),
        migrations.AlterField(
            "trace", "outcome", models.PositiveSmallIntegerField(help_text="loadgen.protocol.outcomes.Outcome")
        ),
        migrations.RunPython(name_version, migrations.RunPython.noop),
    ]
