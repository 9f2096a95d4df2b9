"""What is not traced leaves no row, on every database, and its statistics beside those of what is."""

import pytest

from experiments.analysis.account import account_of
from experiments.analysis.host_shares import hosts_of
from experiments.analysis.intervals import intervals_of
from experiments.ingest.ingest import ingest
from experiments.models import Batch, Capture, SecondStats, Trace
from loadgen.protocol.trace_batch import Capture as Captured
from loadgen.protocol.trace_batch import encode_captures, to_message
from tests.support.batches import counters_of, make_experiment, raw, rows_of, shards_of

pytestmark = [pytest.mark.database, pytest.mark.usefixtures("broker")]


@pytest.mark.django_db
def test_batches_in_turn_traced_and_not_are_one_account():
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    arrivals = rows_of(shard)
    section = encode_captures([Captured(0, b"q", b"r")])
    for number in range(10):
        part = arrivals[2 * number : 2 * number + 2]
        header = {
            "number": number,
            "first_row": 2 * number,
            "end": "finished" if number == 9 else "",
            "counters": counters_of(arrivals[: 2 * number + 2]),
            "traced": number % 2 == 0,
            "captures_bytes": len(section),
        }
        for _ in range(2):  # each is delivered twice
            ingest(to_message(raw(shard, part, **header) + section))
    assert [trace.id & 0xFFFFFFFF for trace in Trace.objects.all()] == [0, 1, 4, 5, 8, 9, 12, 13, 16, 17]
    assert (Capture.objects.count(), Batch.objects.filter(traced=False).count()) == (5, 5)
    seconds = SecondStats.objects.order_by("second", "traced").values_list("traced", "arrivals", "routed")
    host = {"1": {"10.0.0.1:80": 4}}
    more = {"1": {"10.0.0.1:80": 6}}
    assert list(seconds) == [(False, 4, host), (True, 6, {}), (False, 6, more), (True, 4, {})]
    account = account_of(experiment)
    assert (account.rows, account.untraced, account.completed, account.complete) == (10, 10, 20, True)
    (intervals,) = intervals_of(experiment)
    assert [each["sent"] for each in intervals["intervals"]] == [10, 10]
    assert hosts_of(experiment)[0]["shards"][0]["routed"] == 20
