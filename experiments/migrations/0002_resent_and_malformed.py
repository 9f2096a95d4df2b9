from typing import Any

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def name_version(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    """Names the version of the arrival processes in each stored plan.

    Runs up to now had version 1. Queued experiments, which run after the migration, will have version 2.
    """
    experiments: Any = apps.get_model("experiments", "Experiment").objects
    for experiment in experiments.only("plan", "status").iterator():
        if experiment.plan:
            version = 2 if experiment.status == "QUEUED" else 1
            experiment.plan = {**experiment.plan, "arrivals_version": version}
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
        migrations.AddField(
            "experiment",
            "clocks",
            models.JSONField(
                blank=True,
                default=dict,
                editable=False,
                help_text="interactive: at its start, worker → its instance and the offset of its clock in ns",
            ),
        ),
        migrations.AddField("secondstats", "addresses", models.JSONField(default=dict)),
        migrations.AlterField(
            "trace", "outcome", models.PositiveSmallIntegerField(help_text="loadgen.protocol.outcomes.Outcome")
        ),
        migrations.RunPython(name_version, migrations.RunPython.noop),
    ]
