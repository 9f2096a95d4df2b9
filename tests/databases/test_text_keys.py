"""Keys that differ only in case: some databases take them for one key, so that ours must never rely on a difference."""

import pytest
from django.db import IntegrityError, connection, transaction

from experiments.models import Worker
from routing import selectors, services
from routing.errors import InvalidInput
from tests.databases import rows

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def test_service_that_differs_only_in_case_is_refused(broker):
    services.set_record("web", ["10.0.0.1:80"], [1])
    with pytest.raises(InvalidInput, match=r"^service: .*'web'"):
        services.set_record("WEB", ["10.0.0.2:80"], [1])
    assert [record.service for record in selectors.records()] == ["web"]


def test_a_service_is_found_and_removed_by_its_exact_name_only(broker):
    record = services.set_record("web", ["10.0.0.1:80"], [1])
    assert selectors.record("WEB") is None
    assert services.remove_record("WEB") is False
    assert selectors.record("web") == record


def test_worker_name_in_another_case_follows_the_databases_keys(db):
    rows.make_worker("pi")
    if connection.vendor != "mysql":
        rows.make_worker("PI")
        assert Worker.objects.get(name="PI") != Worker.objects.get(name="pi")
        return
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.make_worker("PI")
    assert Worker.objects.get(name="PI").name == "pi"
