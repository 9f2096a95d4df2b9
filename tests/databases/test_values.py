"""What is written is read again, to the last bit: the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DataError, connection, transaction
from django.db.models import F, Max

from experiments.models import ClientGroup, Event, Experiment, SecondStats, Shard, Trace, Worker, Workload
from experiments.models.trace import ROW_BITS, trace_key
from experiments.services import events
from routing.models import RoutingHost, RoutingRecord, RoutingRevision
from tests.databases import rows

pytestmark = [pytest.mark.database, pytest.mark.django_db]

MAX_BIGINT = 2**63 - 1
LONGEST_NAME = 191
TEXTS = ["", "größer", "日本語", "🚀" * 3, "tab\tnew\nline\\'\";--%s", " spaces ", "e\u0301 is no \u00e9", "\u00a0"]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"text": TEXTS, "größer 🚀": {"nested": [[], {}, None, True, False]}},
        {"integers": [0, -1, 2**31, 2**53 + 1, MAX_BIGINT, -(2**63)]},
        {"floats": [0.1, 1 / 3, 0.1 + 0.2, -2.5, 1e-9, 1e-300, 1e15, 2.0]},
        {"escapes": "\x01\x1f\u2028\u2029\x7f"},
        {"Case": 1, "case": 2, "trailing": 3, "trailing ": 4},
        {"long": "x" * 100_000},
    ],
    ids=lambda value: next(iter(value), "empty"),
)
def test_json_comes_back_as_it_was_written(value, one_of_each):
    Experiment.objects.update(plan=value, metadata=value, summary=value)
    stored = Experiment.objects.get()
    assert (stored.plan, stored.metadata, stored.summary) == (value, value, value)
    assert [type(number) for number in stored.plan.get("floats", [])] == [float] * len(value.get("floats", []))


def test_no_json_is_null_and_not_the_json_value_null(one_of_each):
    Experiment.objects.update(summary=None)
    assert Experiment.objects.get().summary is None
    assert Experiment.objects.filter(summary__isnull=True).count() == 1


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_as_it_was_written(text, one_of_each):
    Experiment.objects.update(name=text, reason=text)
    Event.objects.update(value=text)
    stored = Experiment.objects.get()
    assert (stored.name, stored.reason, Event.objects.get().value) == (text, text, text)


@pytest.mark.parametrize("letter", ["x", "é", "🚀"])
def test_the_longest_names_and_keys_are_stored_whole(letter, one_of_each):
    name = letter * LONGEST_NAME
    Experiment.objects.update(name=name, creator=name)
    Workload.objects.update(service=name)
    Event.objects.update(name=name, key=name)
    RoutingRecord.objects.update(service=name)
    RoutingRevision.objects.update(service=name, changed_by=name)
    RoutingHost.objects.update(host=name)
    Trace.objects.update(host=letter * 255)
    for model, field in ((Workload, "service"), (Event, "key"), (RoutingRecord, "service"), (RoutingHost, "host")):
        assert model.objects.filter(**{field: name}).count() == 1
    assert Trace.objects.get().host == letter * 255


def test_the_longest_ids_are_keys_and_lead_to_their_rows(one_of_each):
    rows.make_shard(rows.make_experiment("e" * 24), one_of_each[Worker], group_id="g" * 40)
    assert Shard.objects.get(group__experiment__id="e" * 24).group_id == "g" * 40


def test_routing_change_of_longest_service_is_on_the_timeline(one_of_each):
    service = "s" * LONGEST_NAME
    Workload.objects.update(service=service)
    RoutingRevision.objects.create(
        service=service, version=2**31 - 1, hosts=["h"], weights=[1], changed_at=rows.START, changed_by="ada"
    )
    events.record_routing_changes(one_of_each[Experiment])
    assert Event.objects.get(name="routing").key == f"routing:{service}:{2**31 - 1}"


@pytest.mark.parametrize(
    ("model", "field", "length"),
    [(Experiment, "name", 191), (Event, "key", 255), (Worker, "name", 63), (RoutingRecord, "service", 191)],
)
def test_a_text_that_is_too_long_is_never_cut_silently(model, field, length, one_of_each):
    text = "x" * (length + 1)
    if connection.vendor == "sqlite":  # it has no lengths: it keeps the whole text
        model.objects.update(**{field: text})
        assert getattr(model.objects.get(), field) == text
        return
    with pytest.raises(DataError), transaction.atomic():
        model.objects.update(**{field: text})


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 22, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        datetime(2040, 1, 1, tzinfo=UTC),
    ],
)
def test_a_time_keeps_its_microseconds_and_its_zone(moment, one_of_each):
    Experiment.objects.update(created_at=moment, started_at=moment, ended_at=moment + timedelta(microseconds=1))
    stored = Experiment.objects.get(created_at=moment)
    assert (stored.created_at, stored.started_at, stored.ended_at - stored.started_at) == (
        moment,
        moment,
        timedelta(microseconds=1),
    )
    assert stored.created_at.utcoffset() == timedelta(0)
    assert not Experiment.objects.filter(created_at__gt=moment).exists()
    assert Experiment.objects.filter(ended_at__gt=F("started_at")).count() == 1


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_bytes_come_back_as_they_were_written(size):
    shard = rows.make_shard(rows.make_experiment(), rows.make_worker())
    content = bytes(range(256)) * (size // 256 + 1)
    SecondStats.objects.bulk_create([rows.second_stats(shard, lateness=content[:size], response_time=b"'\\\0%s\xff")])
    stored = SecondStats.objects.get()
    assert bytes(stored.lateness) == content[:size]
    assert bytes(stored.response_time) == b"'\\\0%s\xff"


@pytest.mark.parametrize("number", [0, 1, rows.START_NS, MAX_BIGINT, -1, -(2**63)])
def test_nanoseconds_are_exact(number, one_of_each):
    Trace.objects.update(intended_ns=number, dispatched_ns=number, sent_ns=None, done_ns=number)
    Worker.objects.update(clock_offset_ns=number)
    found = Trace.objects.get(intended_ns=number)
    assert (found.intended_ns, found.dispatched_ns, found.sent_ns, found.done_ns) == (number, number, None, number)
    assert Trace.objects.aggregate(last=Max("done_ns"))["last"] == number
    assert Worker.objects.get().clock_offset_ns == number


def test_the_largest_trace_key_is_a_key(one_of_each):
    key = trace_key(2**31 - 1, 2**ROW_BITS - 1)
    assert key == MAX_BIGINT
    Trace.objects.bulk_create([rows.trace(one_of_each[Shard], id=key)])
    assert Trace.objects.filter(id=key).count() == 1


@pytest.mark.parametrize("weight", [0.0, 0.1, 1 / 3, 1e-9, 2.5, float(2**53), 1e300])
def test_a_weight_is_exact(weight, one_of_each):
    RoutingHost.objects.update(weight=weight)
    assert RoutingHost.objects.get().weight == weight


@pytest.mark.parametrize("number", [2**31 - 1])
def test_counts_reach_the_largest_integer_of_every_database(number, one_of_each):
    Experiment.objects.update(seed=MAX_BIGINT)
    ClientGroup.objects.update(version=number)
    Trace.objects.update(client=number, routing_version=number, status=999, sequence=MAX_BIGINT)
    assert Experiment.objects.get().seed == MAX_BIGINT
    assert ClientGroup.objects.get().version == number
    assert (Trace.objects.get().client, Trace.objects.get().status) == (number, 999)
