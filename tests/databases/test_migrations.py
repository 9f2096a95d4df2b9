"""The migrations are the models, lead to them from nothing, and back."""

import pytest
from django.core.management import call_command
from django.db import connection

from experiments.models import Experiment, Trace
from experiments.services import deletion
from tests.databases import rows

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def test_no_migration_is_missing(capsys):
    call_command("makemigrations", check=True, dry_run=True)
    assert "No changes detected" in capsys.readouterr().out


def test_the_checks_of_the_models_against_this_database_find_nothing(capsys):
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
def test_traces_survive_the_way_to_partitions_and_back(broker):
    try:
        migrate("zero")
        migrate("0001")
        unpartitioned = keys_and_checks()
        migrate_fully()
        worker = rows.make_worker()
        for number in range(3):
            rows.fill(rows.make_shard(rows.make_experiment(f"202611220102-ab1{number}"), worker))
        written = traces()
        migrate("0001")
        assert (traces(), keys_and_checks()) == (written, unpartitioned)
        migrate_fully()
        assert traces() == written
    finally:
        migrate_fully()
    Experiment.objects.update(status="FINISHED", ending="FINISHED")
    deletion.delete("202611220102-ab10")
    assert traces() == written[1:]


def migrate(target):
    call_command("migrate", "experiments", target, verbosity=0)


def migrate_fully():
    call_command("migrate", verbosity=0)


def traces():
    return list(Trace.objects.order_by("id").values())


def keys_and_checks():
    """Columns of the table of traces that have an index or a constraint, and which kind."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Trace._meta.db_table)
    return sorted(str({**constraint, "definition": None}) for constraint in found.values())


def our_tables():
    names = connection.introspection.table_names()
    return {name for name in names if name.startswith(("experiments_", "routing_"))}
