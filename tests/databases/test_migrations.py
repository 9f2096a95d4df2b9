"""The migrations equal the models, lead to them from nothing, and back; other versions' databases are refused."""

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from experiments.models import Experiment
from tests.databases import rows

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def test_no_migration_is_missing(capsys):
    call_command("makemigrations", check=True, dry_run=True)
    assert "No changes detected" in capsys.readouterr().out


def test_model_checks_against_this_database_find_nothing(capsys):
    call_command("check", databases=["default"], fail_level="DEBUG")
    assert "no issues" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_our_tables_can_be_removed_and_made_again():
    try:
        for app in ("experiments", "routing"):
            call_command("migrate", app, "zero", verbosity=0)
        assert our_tables() == set()
    finally:
        call_command("migrate", verbosity=0)
    assert our_tables() == {model._meta.db_table for model in rows.our_models()}
    rows.one_of_each()
    assert Experiment.objects.count() == 1


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_stored_plans_get_the_version_of_arrivals_that_runs_them():
    stored = [
        ("202611300101-ran0", "FINISHED", {"seed": 7}, {"seed": 7, "arrivals_version": 1}),
        ("202611300101-runs", "RUNNING", {"seed": 7}, {"seed": 7, "arrivals_version": 1}),
        ("202611300101-wait", "QUEUED", {"seed": 7}, {"seed": 7, "arrivals_version": 2}),
        ("202611300101-none", "FINISHED", {}, {}),
    ]
    try:
        call_command("migrate", "experiments", "0001_initial", verbosity=0)
        loader = MigrationLoader(connection)
        earlier = loader.project_state(("experiments", "0001_initial")).apps.get_model("experiments", "Experiment")
        for experiment_id, status, plan, _ in stored:
            earlier.objects.create(
                id=experiment_id, name="e", creator="x", seed=7, status=status, plan=plan, created_at=timezone.now()
            )
    finally:
        call_command("migrate", verbosity=0)
    plans = dict(Experiment.objects.values_list("id", "plan"))
    assert plans == {experiment_id: after for experiment_id, _, _, after in stored}


def test_a_database_of_another_version_is_refused():
    MigrationRecorder(connection).record_applied("experiments", "0010_deleting")
    with pytest.raises(SystemCheckError, match=r"galileo\.E001.*experiments\.0010_deleting"):
        call_command("migrate", verbosity=0, skip_checks=False)


def our_tables():
    names = connection.introspection.table_names()
    return {name for name in names if name.startswith(("experiments_", "routing_"))}
