"""The migrations are the models, lead to them from nothing, and back."""

import pytest
from django.core.management import call_command
from django.db import connection

from experiments.models import Experiment
from tests.databases import rows

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def test_no_migration_is_missing(capsys):
    call_command("makemigrations", check=True, dry_run=True)
    assert "No changes detected" in capsys.readouterr().out


def test_the_checks_of_the_models_against_this_database_find_nothing(capsys):
    call_command("check", databases=["default"], fail_level="DEBUG")
    assert "no issues" in capsys.readouterr().out


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


def our_tables():
    names = connection.introspection.table_names()
    return {name for name in names if name.startswith(("experiments_", "routing_"))}
