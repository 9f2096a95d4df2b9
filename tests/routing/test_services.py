"""Setting and removing records: the database is authoritative, and Redis follows after the commit."""

import pytest
from django.db import IntegrityError, transaction

from routing import models, selectors, services
from routing.errors import Conflict, InvalidInput, NotFound
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingRecord

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("client")]


def test_a_record_that_was_set_is_in_the_database_and_in_redis(redis_table):
    record = services.set_record("s", ["a:80", "b:80"], [1, 2.5], "ada")
    assert record == RoutingRecord("s", ["a:80", "b:80"], [1, 2.5], 1)
    assert selectors.record("s") == record
    assert redis_table.read("s") == record


def test_setting_a_record_again_makes_the_next_version(redis_table):
    services.set_record("s", ["a", "b", "c"], [1, 2, 3], "ada")
    second = services.set_record("s", ["c", "a"], [5, 1], "bob")
    assert second == RoutingRecord("s", ["c", "a"], [5, 1], 2)
    assert selectors.records() == [second]
    assert redis_table.read_all() == [second]


def test_every_version_is_kept_with_its_author():
    services.set_record("s", ["a"], [1], "ada")
    services.set_record("s", ["b"], [2], "bob")
    services.remove_record("s", "eve")
    kept = selectors.revisions(["s"])
    assert [(row.version, row.hosts, row.weights, row.changed_by, row.removed) for row in kept] == [
        (1, ["a"], [1], "ada", False),
        (2, ["b"], [2], "bob", False),
        (3, [], [], "eve", True),
    ]
    assert kept[1].value() == RoutingRecord("s", ["b"], [2], 2)


def test_bounds_of_revisions_are_inclusive():
    for host in ("a", "b", "c"):
        services.set_record("s", [host], [1], "")
    services.set_record("other", ["x"], [1], "")
    first, second, third = selectors.revisions(["s"])
    assert selectors.revisions(["s"], since=second.changed_at) == [second, third]
    assert selectors.revisions(["s"], until=second.changed_at) == [first, second]
    assert selectors.revisions(["s"], second.changed_at, second.changed_at) == [second]
    assert [row.service for row in selectors.revisions(["s", "other"])] == ["s", "s", "s", "other"]
    assert selectors.revisions([]) == []


def test_a_removal_reaches_the_database_and_redis(redis_table):
    services.set_record("s", ["a"], [1], "")
    assert services.remove_record("s", "") is True
    assert selectors.record("s") is None
    assert redis_table.services() == []
    assert redis_table.read_stored() == {}


def test_removing_a_missing_record_writes_nothing():
    assert services.remove_record("s", "") is False
    assert selectors.revisions(["s"]) == []


def test_versions_go_on_after_a_removal():
    services.set_record("s", ["a"], [1], "")
    services.remove_record("s", "")
    assert services.set_record("s", ["a"], [1], "").version == 3


def test_an_invalid_record_is_refused_and_not_written(redis_table):
    before = services.set_record("s", ["a"], [1], "")
    with pytest.raises(InvalidInput) as refused:
        services.set_record("s", ["a:0", "b"], [1], "")
    assert [error.path for error in refused.value.errors] == ["hosts[0]", "weights"]
    assert selectors.record("s") == redis_table.read("s") == before
    assert len(selectors.revisions(["s"])) == 1


def test_names_that_differ_only_in_case_are_refused():
    services.set_record("Service", ["a"], [1], "")
    with pytest.raises(InvalidInput) as refused:
        services.set_record("service", ["a"], [1], "")
    assert [(error.path, error.code) for error in refused.value.errors] == [("service", "duplicate")]
    assert services.remove_record("service", "") is False
    assert selectors.record("service") is None
    assert selectors.record("Service") is not None


def test_a_rollback_writes_nothing_to_redis(redis_table):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        services.set_record("s", ["a"], [1], "")
        raise ZeroDivisionError
    assert selectors.record("s") is None
    assert redis_table.services() == []


def test_a_writer_that_loses_a_race_takes_the_next_version(monkeypatch):
    services.set_record("s", ["a"], [1], "")
    read, answers = services._last_version, [0]
    monkeypatch.setattr(services, "_last_version", lambda service: answers.pop() if answers else read(service))
    assert services.set_record("s", ["b"], [1], "").version == 2
    assert [row.hosts for row in selectors.revisions(["s"])] == [["a"], ["b"]]


def test_a_writer_that_loses_every_race_raises(monkeypatch):
    before = services.set_record("s", ["a"], [1], "")
    monkeypatch.setattr(services, "_last_version", lambda service: 0)
    with pytest.raises(IntegrityError):
        services.set_record("s", ["b"], [1], "")
    assert selectors.record("s") == before


def test_the_newest_version_is_projected_last(redis_table, monkeypatch):
    write = RedisRoutingTable.write
    overtaken = []

    def write_late(table, record):
        if not overtaken:
            overtaken.append(record)
            services.set_record("s", ["new"], [1], "")
        write(table, record)

    monkeypatch.setattr(RedisRoutingTable, "write", write_late)
    services.set_record("s", ["old"], [1], "")
    assert overtaken == [RoutingRecord("s", ["old"], [1], 1)]
    assert redis_table.read("s") == RoutingRecord("s", ["new"], [1], 2)


def test_without_weights_each_host_weighs_1():
    assert services.set_record("s", ["a", "b"]).weights == (1, 1)
    assert services.add_record("t", ["a", "b", "c"]).weights == (1, 1, 1)
    with pytest.raises(InvalidInput, match="hosts: "):
        services.set_record("s", 3)


def test_a_record_is_added_only_where_there_is_none():
    first = services.add_record("s", ["a"], [1], "ada")
    with pytest.raises(Conflict):
        services.add_record("s", ["b"], [1], "bob")
    assert selectors.record("s") == first


def test_a_change_keeps_unnamed_fields(redis_table):
    services.set_record("s", ["a", "b"], [1, 2], "ada")
    assert services.change_record("s", weights=[3, 4]) == RoutingRecord("s", ["a", "b"], [3, 4], 2)
    assert services.change_record("s", hosts=["c", "d"]) == RoutingRecord("s", ["c", "d"], [3, 4], 3)
    assert redis_table.read("s").version == 3
    with pytest.raises(InvalidInput, match="weights: "):
        services.change_record("s", weights=[1])
    with pytest.raises(NotFound, match="'nobody'"):
        services.change_record("nobody", weights=[1])
    assert selectors.record("s").version == 3


def test_a_host_is_appended_to_a_record_or_makes_one():
    assert services.append_host("s", "a") == RoutingRecord("s", ["a"], [1], 1)
    assert services.append_host("s", "b", 0.5) == RoutingRecord("s", ["a", "b"], [1, 0.5], 2)
    with pytest.raises(InvalidInput, match=r"hosts\[2\]: "):
        services.append_host("s", "a")


def test_all_records_are_removed_each_with_a_version_of_its_own(redis_table):
    for name in ("b", "a"):
        services.set_record(name, ["x"], [1], "ada")
    assert services.remove_all("bob") == ["a", "b"]
    assert redis_table.services() == selectors.records() == []
    assert [(row.version, row.changed_by) for row in selectors.revisions(["a"])] == [(1, "ada"), (2, "bob")]
    assert services.remove_all("bob") == []


def test_the_newest_revision_of_a_service_may_be_its_removal():
    assert selectors.newest_revision("s") is None
    services.set_record("s", ["x"], [1], "ada")
    assert selectors.newest_revision("s").version == 1
    services.remove_record("s", "ada")
    assert (selectors.newest_revision("s").version, selectors.newest_revision("s").removed) == (2, True)
    assert selectors.newest_revision("S") is None


@pytest.mark.parametrize("name", ["", "a b", "s" * 192, "\0"])
def test_a_name_that_no_record_may_have_is_looked_for_in_vain(name):
    assert selectors.record(name) is None
    assert services.remove_record(name) is False
    with pytest.raises(InvalidInput, match="service: "):
        services.append_host(name, "a")


@pytest.mark.parametrize(
    "row",
    [
        lambda record: models.RoutingHost(record=record, position=1, host="a", weight=1),
        lambda record: models.RoutingHost(record=record, position=0, host="b", weight=1),
        lambda record: models.RoutingHost(record=record, position=1, host="b", weight=-0.1),
        lambda record: models.RoutingRecord(service="s"),
        lambda record: models.RoutingRecord(service="t", version=0),
        lambda record: models.RoutingRevision(service="s", version=1, hosts=[], weights=[]),
        lambda record: models.RoutingRevision(service="s", version=0, hosts=[], weights=[]),
    ],
    ids=["same host", "same position", "negative weight", "same service", "version 0", "same revision", "revision 0"],
)
def test_database_constraints_refuse_invalid_rows(row):
    services.set_record("s", ["a"], [1], "")
    with pytest.raises(IntegrityError), transaction.atomic():
        row(models.RoutingRecord.objects.get()).save()
