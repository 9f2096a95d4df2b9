"""The routing table in Redis has the original's schema, and is read in one transaction."""

import asyncio
import hashlib
import threading

import pytest
import redis
import redis.asyncio

from routing.redis import table as redis_table_module
from routing.redis.table import RedisRoutingTable, Stored, read_async
from routing.table import RoutingError, RoutingRecord, RoutingTable
from tests.support.foreign_routes import set_route

RECORD = RoutingRecord("myservice", ["host1:8080", "host2:8080"], [1, 2.5], 3)
STAMP = b"3 " + hashlib.sha256(b"host1:8080 1\nhost2:8080 2.5").hexdigest()[:16].encode()


def test_a_record_is_written_in_the_originals_schema(client, redis_table):
    redis_table.write(RECORD)
    assert client.smembers("routing:services") == {b"myservice"}
    assert client.lrange("routing:hosts:myservice", 0, -1) == [b"host1:8080", b"host2:8080"]
    assert client.lrange("routing:weights:myservice", 0, -1) == [b"1", b"2.5"]
    assert client.hgetall("routing:versions") == {b"myservice": STAMP}


def test_a_written_record_replaces_the_one_before(redis_table):
    redis_table.write(RECORD)
    smaller = RoutingRecord("myservice", ["host3"], [1], 4)
    redis_table.write(smaller)
    assert redis_table.read("myservice") == smaller


def test_a_removed_service_leaves_nothing_behind(client, redis_table):
    redis_table.write(RECORD)
    redis_table.remove("myservice")
    assert client.keys("*") == []
    assert redis_table.read("myservice") is None


def test_every_change_publishes_the_services_name(client, redis_table):
    with client.pubsub(ignore_subscribe_messages=False) as channel:
        channel.subscribe("routing:updates")
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        redis_table.write(RECORD)
        redis_table.remove("myservice")
        messages = [channel.get_message(timeout=5) for _ in range(2)]
    assert [message["data"] for message in messages] == [b"myservice"] * 2


@pytest.mark.parametrize("decode", [False, True])
def test_clients_with_and_without_decoding_read_a_record(redis_server, redis_table, decode):
    other = RoutingRecord("another", ["[::1]:80"], [1], 1)
    redis_table.write(RECORD)
    redis_table.write(other)
    with redis_server.client(decode_responses=decode) as reader:
        table: RoutingTable = RedisRoutingTable(reader)
        assert table.read("myservice") == RECORD
        assert table.read_all() == [other, RECORD]
        assert {name: stored.stamp for name, stored in RedisRoutingTable(reader).read_stored().items()} == {
            "myservice": 3, "another": 1,
        }  # fmt: skip
        assert RedisRoutingTable(reader).services() == ["another", "myservice"]


@pytest.mark.parametrize("decode", [False, True])
def test_an_event_loop_reads_a_record(redis_server, redis_table, decode):
    redis_table.write(RECORD)

    async def read(service):
        async with redis.asyncio.Redis.from_url(redis_server.url, decode_responses=decode) as reader:
            return await read_async(reader, service)

    assert asyncio.run(read("myservice")) == RECORD
    assert asyncio.run(read("nobody")) is None


def test_a_record_that_another_tool_wrote_reads_with_version_0(client, redis_table):
    client.sadd("routing:services", "theirs")
    client.rpush("routing:hosts:theirs", "a:80", "b:80")
    client.rpush("routing:weights:theirs", "1.0", "0.5")
    assert redis_table.read("theirs") == RoutingRecord("theirs", ["a:80", "b:80"], [1, 0.5], 0)


def test_a_service_removed_during_read_all_is_left_out(redis_table, monkeypatch):
    redis_table.write(RECORD)
    monkeypatch.setattr(redis_table, "services", lambda: ["gone", "myservice"])
    assert redis_table.read_all() == [RECORD]


def test_an_empty_table_reads_as_no_records(redis_table):
    assert redis_table.read_all() == []
    assert redis_table.services() == []


@pytest.mark.parametrize(
    ("hosts", "weights", "version", "reason"),
    [
        (["a", "b"], ["1"], "1", r"'theirs'.*weights: "),
        (["a"], [], "1", r"'theirs'.*weights: "),
        ([], ["1"], "1", r"'theirs'.*hosts: "),
        (["a"], ["much"], "1", r"routing:weights:theirs\[0\]: .*'much'"),
        (["a"], ["nan"], "1", r"'theirs'.*weights\[0\]: "),
        (["a"], ["0"], "1", r"'theirs'.*weights: "),
        (["http://a"], ["1"], "1", r"'theirs'.*hosts\[0\]: "),
        ([b"\xff"], ["1"], "1", r"routing:hosts:theirs: "),
        (["a"], ["1"], "new", r"routing:versions\[theirs\]: .*'new'"),
        (["a"], ["1"], "9" * 5000, r"routing:versions\[theirs\]: "),
    ],
)
def test_unreadable_content_is_an_error_that_names_the_key(client, redis_table, hosts, weights, version, reason):
    for key, values in (("routing:hosts:theirs", hosts), ("routing:weights:theirs", weights)):
        if values:
            client.rpush(key, *values)
    client.hset("routing:versions", "theirs", version)
    with pytest.raises(RoutingError, match=reason):
        redis_table.read("theirs")


def test_a_reader_never_sees_a_half_written_record(redis_server, redis_table):
    versions = {1: RoutingRecord("s", ["a"], [1], 1), 2: RoutingRecord("s", ["b", "c", "d"], [2, 3, 4], 2)}
    redis_table.write(versions[1])
    done = threading.Event()

    def write() -> None:
        for _ in range(100):
            redis_table.write(versions[2])
            redis_table.write(versions[1])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with redis_server.client() as reader:
            table = RedisRoutingTable(reader)
            while not done.is_set():
                seen = table.read("s")
                assert seen is not None
                assert seen == versions[seen.version]
    finally:
        writer.join()


def test_another_tools_change_is_version_0_until_confirmed(client, redis_table):
    redis_table.write(RECORD)
    set_route(client, "myservice", {"host3": "1.0"})
    theirs = RoutingRecord("myservice", ["host3"], [1], 0)
    assert redis_table.read("myservice") == theirs
    assert redis_table.read_stored() == {"myservice": Stored(theirs, stamp=3, listed=True)}
    adopted = RoutingRecord("myservice", ["host3"], [1], 4)
    assert redis_table.confirm(adopted) is True
    assert redis_table.read("myservice") == adopted


def test_a_record_that_has_changed_is_not_confirmed(client, redis_table):
    set_route(client, "s", {"b": "1"})
    assert redis_table.confirm(RoutingRecord("s", ["a"], [1], 1)) is False
    assert redis_table.confirm(RoutingRecord("gone", ["a"], [1], 1)) is False
    assert redis_table.confirm_removal("s") is False
    assert client.keys("routing:versions") == []
    assert redis_table.read("s") == RoutingRecord("s", ["b"], [1], 0)


def test_a_change_before_the_stamp_is_not_confirmed(client, redis_table, monkeypatch):
    set_route(client, "s", {"a": "1"})
    parse = redis_table_module.parse_stored

    def parse_and_be_overtaken(*arguments):
        stored = parse(*arguments)
        set_route(client, "s", {"b": "1"})
        return stored

    monkeypatch.setattr(redis_table_module, "parse_stored", parse_and_be_overtaken)
    assert redis_table.confirm(RoutingRecord("s", ["a"], [1], 1)) is False
    assert redis_table.read("s") == RoutingRecord("s", ["b"], [1], 0)


def test_a_service_without_lists_is_half_written(client, redis_table):
    redis_table.write(RECORD)
    client.delete("routing:hosts:myservice", "routing:weights:myservice")
    with pytest.raises(RoutingError, match="hosts: "):
        redis_table.read("myservice")
    client.srem("routing:services", "myservice")
    assert redis_table.read("myservice") is None
