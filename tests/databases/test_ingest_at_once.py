"""Trace batches that several processes store at the same time: each counts once, in the rows and in the statistics."""

import pytest
from django.db.models import Sum

from experiments.ingest.received import read
from experiments.ingest.store import store
from experiments.models import Batch, SecondStats, Trace
from tests.databases.threads import together
from tests.support.batches import make_experiment, rows_of, run_payloads, shards_of

pytestmark = [pytest.mark.database(sqlite=False), pytest.mark.django_db(transaction=True)]


def test_batch_arriving_several_times_at_once_is_stored_once():
    (shard,) = shards_of(make_experiment())
    for payload in run_payloads(shard, batches=4):
        stored = together(3, lambda number, payload=payload: store(read(payload)).new)
        assert sorted(stored) == [False, False, True]
    assert_complete([shard], batches=4)


def test_batches_of_one_shard_that_are_stored_at_once_add_up():
    (shard,) = shards_of(make_experiment())
    payloads = run_payloads(shard, batches=4)
    assert together(4, lambda number: store(read(payloads[number])).new) == [True] * 4
    assert_complete([shard], batches=4)


def test_shards_that_are_stored_at_once_do_not_meet():
    shards = shards_of(make_experiment(shards=4))
    payloads = [run_payloads(shard, batches=3) for shard in shards]
    together(4, lambda number: [store(read(payload)) for payload in payloads[number]])
    assert_complete(shards, batches=3)


def assert_complete(shards, batches):
    planned = sum(len(rows_of(shard)) for shard in shards)
    assert Batch.objects.count() == batches * len(shards)
    assert Trace.objects.count() == planned == 20
    assert SecondStats.objects.aggregate(total=Sum("arrivals"))["total"] == planned
