"""RedisIngest with a real broker."""

import redis

from loadgen.agent.forwarder import Forwarder
from loadgen.agent.ingest_link import RedisIngest
from loadgen.device.spool import BatchName, Spool
from loadgen.protocol.keys import ack_key, ingest_progress_key
from loadgen.protocol.messages import BatchHeader, Counters, Gauges
from loadgen.protocol.trace_batch import encode_header
from tests.support.redis_server import RedisServer
from tests.support.shards import IngestByHand
from tests.support.worker_process import settings_for


def seal(spool: Spool, number: int) -> None:
    header = BatchHeader(1, 1, "g", None, "w", number, 0, 0, 0, [], Counters(), Gauges())
    spool.write(BatchName("g", 1, 1, number), encode_header(header))


def test_a_batch_is_one_message_and_its_answer_deletes_the_file(
    redis_server: RedisServer, store: redis.Redis, tmp_path
) -> None:
    settings = settings_for(redis_server, "w", tmp_path)
    spool = Spool(tmp_path, 1 << 20)
    link = RedisIngest(settings, redis_server.client())
    forwarder = Forwarder(spool, link, 1)
    for number in range(3):
        seal(spool, number)

    forwarder.step()
    with IngestByHand(redis_server, store) as ingest:
        taken = [ingest.take() for _ in range(3)]
    forwarder.step(0.2)
    forwarder.step(0.2)

    assert taken == ["g.1.1.0", "g.1.1.1", "g.1.1.2"]
    assert not spool.scan()
    assert forwarder.unacknowledged == 0
    link.close()


def test_progress_and_waiting_batches_are_read_from_the_broker(
    redis_server: RedisServer, store: redis.Redis, tmp_path
) -> None:
    link = RedisIngest(settings_for(redis_server, "w", tmp_path), redis_server.client())
    assert (link.progress("galileo.ingest.0"), link.waiting("galileo.ingest.0")) == (0, 0)

    link.send("galileo.ingest.0", BatchName("g", 1, 1, 0), b"x")
    store.set(ingest_progress_key("galileo.ingest.0"), 7)

    assert (link.progress("galileo.ingest.0"), link.waiting("galileo.ingest.0")) == (7, 1)
    link.close()


def test_answers_are_popped_all_at_once(redis_server: RedisServer, store: redis.Redis, tmp_path) -> None:
    link = RedisIngest(settings_for(redis_server, "w", tmp_path), redis_server.client())
    store.rpush(ack_key("w"), *(f"g.1.1.{number}" for number in range(600)))

    popped = link.pop_answers(0.0) + link.pop_answers(0.0)

    assert popped == [f"g.1.1.{number}" for number in range(600)]
    assert link.pop_answers(0.0) == []
    link.close()
