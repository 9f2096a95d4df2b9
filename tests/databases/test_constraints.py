"""The database itself refuses a bad row, whoever writes it: none of these writes goes through Django's validation."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection, models, transaction
from django.db.models.deletion import ProtectedError

from experiments.models import (
    ENDED_STATUSES,
    Batch,
    ClientApp,
    ClientAppVersion,
    ClientGroup,
    Event,
    Experiment,
    ExperimentStatus,
    InteractiveGroup,
    NodeInfo,
    OnWorkerLoss,
    SecondStats,
    Shard,
    ShardStatus,
    TelemetrySample,
    Trace,
    Worker,
    WorkerStatus,
    Workload,
)
from routing.models import RoutingHost, RoutingRecord, RoutingRevision
from tests.databases import rows
from tests.support.partitions import make_partition

pytestmark = [pytest.mark.database, pytest.mark.django_db]

# A value that a column cannot hold is a DataError on some databases and breaks a generated CHECK on others.
REFUSALS = (IntegrityError, DataError)

Model = type[models.Model]

# Constraint, model, and changes of a good row that each break it.
CHECKS: list[tuple[str, Model, list[dict[str, Any]]]] = [
    ("experiment_status_known", Experiment, [{"status": "DONE"}, {"status": ""}]),
    ("experiment_final_status_known", Experiment, [{"final_status": "RUNNING"}, {"final_status": "-"}]),
    ("experiment_seed_not_negative", Experiment, [{"seed": -1}]),
    ("experiment_end_after_start", Experiment, [{"ended_at": rows.START - timedelta(microseconds=1)}]),
    ("workload_has_clients", Workload, [{"clients": 0}]),
    ("workload_shards_positive", Workload, [{"shards_per_worker": 0}]),
    (
        "workload_shards_as_placed",
        Workload,
        [{"shards": 2}, {"placement": "queue"}, {"placement": "queue", "shards": 0}, {"placement": "random"}],
    ),
    ("group_on_worker_loss_known", ClientGroup, [{"on_worker_loss": "ignore"}, {"on_worker_loss": ""}]),
    ("group_state_known", ClientGroup, [{"state": "go"}, {"state": ""}]),
    ("group_version_positive", ClientGroup, [{"version": 0}]),
    ("group_runs_from_a_start", ClientGroup, [{"start_broker_ns": None}]),
    ("shard_attempt_positive", Shard, [{"attempt": 0}]),
    ("shard_status_known", Shard, [{"status": "ENDED"}, {"status": ""}]),
    ("shard_runs_on_a_worker", Shard, [{"status": status, "worker": None} for status in ("READY", "RUNNING")]),
    ("worker_status_known", Worker, [{"status": "AWAY"}, {"status": ""}]),
    ("worker_has_slots", Worker, [{"slots": 0}]),
    ("app_version_positive", ClientAppVersion, [{"number": 0}]),
    ("routing_record_version_from_1", RoutingRecord, [{"version": 0}]),
    ("routing_host_weight_not_negative", RoutingHost, [{"weight": -0.1}]),
    ("routing_revision_version_from_1", RoutingRevision, [{"version": 0}]),
]
# Constraint, model, and changes of a second row that each make it another one; unchanged, it is refused.
UNIQUE: list[tuple[str, Model, list[dict[str, Any]]]] = [
    ("experiment_instruction_once", Experiment, [{"id": "202611220102-ab13", "instruction_id": "1"}]),
    ("app_version_unique", ClientAppVersion, [{"number": 2}]),
    ("workload_index_unique", Workload, [{"index": 1}]),
    ("shard_index_unique", Shard, [{"index": 1}]),
    ("batch_once", Batch, [{"attempt": 2}, {"number": 1}]),
    ("second_once_per_shard", SecondStats, [{"second": 1}, {"workload": 1}, {"traced": False}]),
    ("event_once", Event, [{"key": "another"}]),
    (
        "telemetry_once",
        TelemetrySample,
        [{"metric": "ram"}, {"node": "pi-2"}, {"subsystem": "0"}, {"timestamp_ns": rows.START_NS + 1}],
    ),
    ("node_once", NodeInfo, [{"node": "pi-2"}]),
    ("routing_host_once_per_record", RoutingHost, [{"position": 1, "host": "10.0.0.2:80"}]),
    ("routing_host_position_once", RoutingHost, [{"position": 1, "host": "10.0.0.2:80"}]),
    ("routing_revision_once", RoutingRevision, [{"version": 2}, {"service": "other"}]),
    ("unique", Worker, [{"name": "pi-2"}]),
    ("unique", RoutingRecord, [{"service": "other"}]),
    ("unique", ClientApp, [{"name": "other"}]),
]
# Changes that leave a good row good: the edges of the rules.
GOOD: list[tuple[Model, dict[str, Any]]] = [
    *((Experiment, {"status": status}) for status in ExperimentStatus.values),
    *((Experiment, {"final_status": status}) for status in ("", *ENDED_STATUSES)),
    (Experiment, {"seed": 0}),
    (Experiment, {"ended_at": rows.START}),
    (Experiment, {"ended_at": rows.START, "started_at": None}),
    (Workload, {"clients": 1, "index": 0}),
    (Workload, {"placement": "queue", "shards": 1}),
    *((ClientGroup, {"state": state, "start_broker_ns": None}) for state in ("hold", "stop")),
    *((ClientGroup, {"on_worker_loss": policy}) for policy in OnWorkerLoss.values),
    (ClientGroup, {"version": 1, "projected_version": 0}),
    *((Shard, {"status": status}) for status in ShardStatus.values),
    *((Shard, {"status": status, "worker": None, "worker_instance": ""}) for status in ("DISPATCHED", "LOST")),
    *((Worker, {"status": status}) for status in WorkerStatus.values),
    (Worker, {"slots": 1, "cores": 0}),
    (RoutingHost, {"weight": 0}),
    (ClientAppVersion, {"archive_bytes": 0, "unpacked_bytes": 0, "manifest": {}}),
]


def every_check() -> list[Any]:
    return [
        pytest.param(model, change, id=f"{name}: {change}") for name, model, changes in CHECKS for change in changes
    ]


def every_required_column() -> list[Any]:
    return [
        pytest.param(model, field.attname, id=f"{model.__name__}.{field.attname}")
        for model in rows.our_models()
        for field in model._meta.concrete_fields
        if not field.null and not field.primary_key
    ]


def every_count() -> list[Any]:
    return [
        pytest.param(model, field.attname, id=f"{model.__name__}.{field.attname}")
        for model in rows.our_models()
        for field in model._meta.concrete_fields
        if isinstance(
            field, models.PositiveIntegerField | models.PositiveSmallIntegerField | models.PositiveBigIntegerField
        )
    ]


def test_every_constraint_of_every_model_is_tried_here():
    declared = {constraint.name for model in rows.our_models() for constraint in model._meta.constraints}
    assert declared == {name for name, _, _ in (*CHECKS, *UNIQUE) if name != "unique"}
    unique = {(model, field) for model in rows.our_models() for field in model._meta.concrete_fields if field.unique}
    tried = {model for name, model, _ in UNIQUE if name == "unique"}
    assert {model for model, field in unique if not field.primary_key and not field.one_to_one} == tried


@pytest.mark.parametrize(("model", "change"), every_check())
def test_a_row_that_breaks_a_rule_cannot_be_saved(model, change, one_of_each):
    row = one_of_each[model]
    for name, value in change.items():
        setattr(row, name, value)
    with pytest.raises(REFUSALS), transaction.atomic():
        row.save()
    assert not model.objects.filter(**{**change, "pk": row.pk}).exists()


@pytest.mark.parametrize(("model", "change"), every_check())
def test_an_update_cannot_make_a_row_break_a_rule(model, change, one_of_each):
    with pytest.raises(REFUSALS), transaction.atomic():
        model.objects.filter(pk=one_of_each[model].pk).update(**change)


@pytest.mark.parametrize(("model", "change"), GOOD)
def test_the_edges_of_the_rules_are_allowed(model, change, one_of_each):
    assert model.objects.filter(pk=one_of_each[model].pk).update(**change) == 1
    assert model.objects.filter(**{**change, "pk": one_of_each[model].pk}).exists()


@pytest.mark.parametrize(("model", "changes"), [pytest.param(*case[1:], id=case[0]) for case in UNIQUE])
def test_second_row_with_the_same_key_is_refused(model, changes, one_of_each):
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.bulk_create([another(one_of_each[model])])
    for change in changes:
        model.objects.bulk_create([another(one_of_each[model], **change)])
    assert model.objects.count() == 1 + len(changes)


def test_each_of_a_hosts_two_keys_is_refused_alone(one_of_each):
    host = one_of_each[RoutingHost]
    for change in ({"position": 1}, {"host": "10.0.0.2:80"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            RoutingHost.objects.bulk_create([another(host, **change)])


def test_an_instruction_makes_at_most_one_experiment(one_of_each):
    Experiment.objects.update(instruction_id="1")
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.make_experiment("202611220102-ab13", instruction_id="1")
    rows.make_experiment("202611220102-ab14")
    rows.make_experiment("202611220102-ab15")
    assert sorted(Experiment.objects.values_list("instruction_id", flat=True), key=str) == ["1", None, None]


@pytest.mark.parametrize("model", [Experiment, ClientGroup, Trace])
def test_a_computed_primary_key_is_stored_once(model, one_of_each):
    row = one_of_each[model]
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.copy(row).save(force_insert=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.bulk_create([copy.copy(row)])
    assert model.objects.count() == 1


def test_a_workload_has_one_group(one_of_each):
    with pytest.raises(IntegrityError), transaction.atomic():
        another(one_of_each[ClientGroup], id=f"{rows.EXPERIMENT_ID}.1").save(force_insert=True)


@pytest.mark.parametrize(("model", "column"), every_required_column())
def test_a_required_column_is_never_null(model, column, one_of_each):
    with pytest.raises(REFUSALS), transaction.atomic():
        model.objects.filter(pk=one_of_each[model].pk).update(**{column: None})


@pytest.mark.parametrize(("model", "column"), every_count())
def test_a_count_is_never_negative(model, column, one_of_each):
    with pytest.raises(REFUSALS), transaction.atomic():
        model.objects.filter(pk=one_of_each[model].pk).update(**{column: -1})


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (Workload, {"experiment_id": "nowhere"}),
        (ClientGroup, {"experiment_id": "nowhere"}),
        (ClientGroup, {"workload_id": 999}),
        (Shard, {"group_id": "nowhere"}),
        (Shard, {"worker_id": 999}),
        (InteractiveGroup, {"group_id": "nowhere"}),
        (Batch, {"shard_id": 999}),
        (Event, {"experiment_id": "nowhere"}),
        (RoutingHost, {"record_id": 999}),
    ],
)
def test_no_row_belongs_to_something_that_is_not_there(model, change, one_of_each):
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.filter(pk=one_of_each[model].pk).update(**change)
        connection.check_constraints()  # some databases look at the commit, which a test never reaches


def test_traces_have_no_foreign_keys(one_of_each):
    make_partition("elsewhere")
    assert Trace.objects.update(experiment_id="elsewhere", shard_id=999) == 1
    assert Trace.objects.filter(experiment_id="elsewhere").count() == 1
    connection.check_constraints()


def test_a_worker_with_shards_stays(one_of_each):
    worker = one_of_each[Worker]
    with pytest.raises(ProtectedError):
        worker.delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        Worker.objects.filter(id=worker.id)._raw_delete(using="default")
        connection.check_constraints()


def another(row: models.Model, **changes: Any) -> models.Model:
    """An unsaved copy of a row, with a primary key of its own where the database gives one."""
    result = copy.copy(row)
    result._state = copy.copy(row._state)
    result._state.adding = True
    if result._meta.auto_field is not None:
        result.pk = None
    for name, value in changes.items():
        setattr(result, name, value)
    return result
