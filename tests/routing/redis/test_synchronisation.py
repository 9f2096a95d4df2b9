"""Changes of other tools become versions; records that Redis lost, or lacks, are projected."""

import logging

import pytest

from routing import models, selectors, services
from routing.redis import projection, synchronisation
from routing.redis.synchronisation import synchronise
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingRecord
from tests.support.foreign_routes import remove_route, set_route

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("client")]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(synchronisation, "_logged", {})


@pytest.fixture
def no_projection(monkeypatch):
    """Commits reach Redis no more, as if the process died just then."""

    def cut() -> None:
        for name in ("project", "confirm"):
            monkeypatch.setattr(projection, f"{name}_after_commit", lambda service: None)

    return cut


def history(service):
    return [(row.version, row.hosts, row.changed_by, row.removed) for row in selectors.revisions([service])]


# --- what another tool has changed ------------------------------------------------------------------------------------


def test_a_change_by_another_tool_is_the_next_version_by_redis(client, redis_table):
    services.set_record("s", ["a:80"], [1], "ada")
    set_route(client, "s", {"b:80": "1.0", "c:80": "0.5"})
    assert redis_table.read("s").version == 0
    assert synchronise() == ["s"]
    adopted = RoutingRecord("s", ["b:80", "c:80"], [1, 0.5], 2)
    assert selectors.record("s") == redis_table.read("s") == adopted
    assert history("s") == [(1, ["a:80"], "ada", False), (2, ["b:80", "c:80"], "redis", False)]
    assert client.lrange("routing:weights:s", 0, -1) == [b"1.0", b"0.5"], "what it wrote stays as it wrote it"
    assert synchronise() == []


def test_a_service_that_only_another_tool_knows_is_adopted(client, redis_table):
    set_route(client, "theirs", {"x": "1"})
    assert synchronise() == ["theirs"]
    assert selectors.record("theirs") == redis_table.read("theirs") == RoutingRecord("theirs", ["x"], [1], 1)


def test_a_table_from_before_a_new_database_is_adopted(redis_table):
    redis_table.write(RoutingRecord("old", ["x"], [1], 4))
    assert synchronise() == ["old"]
    assert selectors.record("old") == redis_table.read("old") == RoutingRecord("old", ["x"], [1], 1)


def test_a_removal_by_another_tool_is_a_version_by_redis(client, redis_table):
    services.set_record("s", ["a"], [1], "ada")
    remove_route(client, "s")
    assert synchronise() == ["s"]
    assert selectors.record("s") is None
    assert history("s")[-1] == (2, [], "redis", True)
    assert client.keys("routing:*") == []
    assert synchronise() == []


def test_a_service_that_is_only_taken_out_of_the_set_is_removed(client):
    services.set_record("s", ["a"], [1], "ada")
    client.srem("routing:services", "s")
    assert synchronise() == ["s"]
    assert history("s")[-1] == (2, [], "redis", True)
    assert client.keys("routing:*") == []


def test_versions_continue_after_a_removal(client, redis_table):
    services.set_record("s", ["a"], [1], "ada")
    services.remove_record("s", "ada")
    set_route(client, "s", {"b": "1"})
    assert synchronise() == ["s"]
    assert redis_table.read("s") == RoutingRecord("s", ["b"], [1], 3)


def test_the_same_hosts_and_weights_again_are_no_change(client, redis_table):
    before = services.set_record("s", ["a", "b"], [1, 2], "ada")
    set_route(client, "s", {"a": "1.0", "b": "2.0"})
    assert synchronise() == []
    assert redis_table.read("s") == before


def test_each_service_is_seen_to_by_itself(client, redis_table):
    for name in ("changed", "kept", "removed"):
        services.set_record(name, ["a"], [1], "ada")
    set_route(client, "added", {"x": "1"})
    set_route(client, "changed", {"x": "1"})
    remove_route(client, "removed")
    assert synchronise() == ["added", "changed", "removed"]
    assert [(record.service, record.version) for record in redis_table.read_all()] == [
        ("added", 1), ("changed", 2), ("kept", 1),
    ]  # fmt: skip
    assert selectors.records() == redis_table.read_all()


# --- what is our own doing --------------------------------------------------------------------------------------------


def test_a_redis_that_was_started_empty_gets_every_record_again(client, redis_table):
    records = [services.set_record(name, ["a"], [1], "ada") for name in ("one", "two")]
    client.flushall()
    assert synchronise() == ["one", "two"]
    assert redis_table.read_all() == selectors.records() == records


def test_a_redis_that_forgot_the_last_change_gets_it_again(redis_table):
    services.set_record("s", ["a"], [1], "ada")
    newest = services.set_record("s", ["b"], [1], "ada")
    redis_table.write(RoutingRecord("s", ["a"], [1], 1))
    assert synchronise() == ["s"]
    assert redis_table.read("s") == newest


def test_a_redis_that_forgot_an_adopted_change_gets_it_again(client, redis_table):
    services.set_record("s", ["a"], [1], "ada")
    set_route(client, "s", {"b": "1"})
    synchronise()
    for lose in (client.flushall, lambda: redis_table.write(RoutingRecord("s", ["a"], [1], 1))):
        lose()
        assert synchronise() == ["s"]
        assert redis_table.read("s") == RoutingRecord("s", ["b"], [1], 2)


def test_a_wrong_stamp_in_redis_is_replaced(client, redis_table):
    records = [services.set_record(name, ["a"], [1], "") for name in ("newer", "older", "unreadable")]
    redis_table.write(RoutingRecord("older", ["x"], [1], 0))
    redis_table.write(RoutingRecord("newer", ["x"], [1], 9))
    client.hset("routing:versions", "unreadable", "x")
    assert synchronise() == ["newer", "older", "unreadable"]
    assert redis_table.read_all() == records
    assert len(models.RoutingRevision.objects.all()) == 3


def test_changes_without_redis_are_projected_later(redis_table, switch_redis, caplog):
    services.set_record("gone", ["a"], [1], "")
    switch_redis(False)
    with caplog.at_level(logging.WARNING, "routing.redis.projection"):
        record = services.set_record("s", ["a"], [1], "")
        services.remove_record("gone", "")
    assert "routing record of s could not be written" in caplog.text
    switch_redis(True)
    assert redis_table.services() == ["gone"]
    assert synchronise() == ["gone", "s"]
    assert redis_table.read_all() == [record]
    assert synchronise() == []


# --- both at once -----------------------------------------------------------------------------------------------------


def test_our_late_change_wins_over_another_tools(client, redis_table, no_projection, caplog):
    services.set_record("s", ["a"], [1], "ada")
    no_projection()
    ours = services.set_record("s", ["b"], [1], "ada")
    set_route(client, "s", {"x": "1"})
    assert synchronise() == ["s"]
    assert selectors.record("s") == redis_table.read("s") == ours
    assert "overwritten with version 2" in caplog.text


def test_our_late_removal_wins_over_another_tools_change(client, redis_table, no_projection):
    services.set_record("s", ["a"], [1], "ada")
    no_projection()
    services.remove_record("s", "ada")
    set_route(client, "s", {"x": "1"})
    assert synchronise() == ["s"]
    assert redis_table.services() == []


def test_the_next_pass_stamps_an_adopted_version(client, redis_table, no_projection):
    services.set_record("s", ["a"], [1], "ada")
    set_route(client, "s", {"b": "1"})
    no_projection()
    synchronise()
    assert redis_table.read("s").version == 0
    assert synchronise() == ["s"]
    assert redis_table.read("s") == RoutingRecord("s", ["b"], [1], 2)
    assert len(history("s")) == 2


def test_a_change_during_adoption_is_the_next_version(client, redis_table, monkeypatch):
    services.set_record("s", ["a"], [1], "ada")
    set_route(client, "s", {"b": "1"})
    confirm = RedisRoutingTable.confirm

    def confirm_late(table, record):
        if record.version == 2:
            set_route(client, "s", {"c": "1"})
        return confirm(table, record)

    monkeypatch.setattr(RedisRoutingTable, "confirm", confirm_late)
    synchronise()
    assert client.lrange("routing:hosts:s", 0, -1) == [b"c"], "it is not overwritten"
    assert synchronise() == ["s"]
    assert redis_table.read("s") == RoutingRecord("s", ["c"], [1], 3)
    assert [entry[1] for entry in history("s")] == [["a"], ["b"], ["c"]]


def test_a_record_set_during_its_removal_is_the_next_version(client, redis_table, monkeypatch):
    services.set_record("s", ["a"], [1], "ada")
    remove_route(client, "s")
    confirm_removal = RedisRoutingTable.confirm_removal

    def confirm_late(table, service):
        set_route(client, "s", {"c": "1"})
        return confirm_removal(table, service)

    monkeypatch.setattr(RedisRoutingTable, "confirm_removal", confirm_late)
    synchronise()
    assert synchronise() == ["s"]
    assert redis_table.read("s") == RoutingRecord("s", ["c"], [1], 3)


def test_a_users_change_during_adoption_wins(client, monkeypatch):
    services.set_record("s", ["a"], [1], "ada")
    set_route(client, "s", {"x": "1"})
    adopt = services.adopt

    def adopt_late(*arguments, **keywords):
        services.set_record("s", ["b"], [1], "ada")
        adopt(*arguments, **keywords)

    monkeypatch.setattr(services, "adopt", adopt_late)
    assert synchronise() == []
    assert [entry[1] for entry in history("s")] == [["a"], ["b"]]


# --- what cannot be adopted -------------------------------------------------------------------------------------------


def half_written(client):
    client.delete("routing:hosts:s", "routing:weights:s")


def without_weights(client):
    client.delete("routing:weights:s")


def not_numbers(client):
    set_route(client, "s", {"b": "much"})


@pytest.mark.parametrize("spoil", [half_written, without_weights, not_numbers])
def test_unreadable_content_is_logged_once_and_not_adopted(client, spoil, caplog):
    before = services.set_record("s", ["a"], [1], "ada")
    spoil(client)
    for _ in range(3):
        assert synchronise() == []
    assert selectors.record("s") == before
    assert caplog.text.count("is not adopted") == 1
    set_route(client, "s", {"b": "1"})
    assert synchronise() == ["s"]
    spoil(client)
    synchronise()
    assert caplog.text.count("is not adopted") == 2, "it is another fault by then"


@pytest.mark.parametrize("name", ["two words", "s" * 192, "Service", b"\xff"])
def test_an_invalid_name_is_logged_once(client, name, caplog):
    services.set_record("service", ["a"], [1], "ada")
    client.sadd("routing:services", name)
    if isinstance(name, str):
        set_route(client, name, {"x": "1"})
    set_route(client, "fine", {"x": "1"})
    assert synchronise() == ["fine"]
    assert synchronise() == []
    assert caplog.text.count("is not adopted") == 1
    assert [record.service for record in selectors.records()] == ["fine", "service"]


def test_our_record_replaces_unreadable_content(client, redis_table, no_projection):
    services.set_record("s", ["a"], [1], "ada")
    not_numbers(client)
    no_projection()
    newest = services.set_record("s", ["b"], [1], "ada")
    assert synchronise() == ["s"]
    assert redis_table.read("s") == newest
