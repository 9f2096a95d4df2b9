"""Recorded trace batches give the figures that they gave when they were recorded, over the API and in the report.

recorded_run.json.gz holds the batches of two experiments, in their forms of the spool and of the wire, and the answers
of the API as commit f13a206 gave them. The open experiment has two workloads on four shards and two workers: every
outcome, two hosts and two routing versions, captures, batches that were not traced, a second attempt, a lost shard, a
missing batch, and a plan that was stopped early. The closed one has requests that its clients had no time for.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from datetime import timedelta
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from experiments.analysis.summary import summarise
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, Shard
from loadgen.protocol.trace_batch import (
    MAGIC,
    MESSAGE_MAGIC,
    decode,
    decode_captures,
    encode_captures,
    encode_header,
    to_message,
    unpack_message,
)
from routing.models import RoutingRevision
from tests.support import batches

RECORDED: dict[str, Any] = json.loads(gzip.decompress((Path(__file__).parent / "recorded_run.json.gz").read_bytes()))
OPEN, CLOSED = "202311142213-open", "202311142213-closed"

CLOSED_REPORT = f"/api/experiments/{CLOSED}/report"

# Keys that have other names since the batches were recorded.
RENAMED = {"thresholds": "limits"}
# Keys and columns that came since then.
ADDED = {
    "reason", "resent", "malformed", "schedule_total", "arrivals_total", "explained_deviation",
    "response_time_with_timeouts", "wait_peak_share", "address", "addresses", "not_compared", "several_lines",
    "changed_ids", "quota_cores", "lines", "throttled_share", "uncounted_total",
}  # fmt: skip
ADDED_LIMITS = {"throttled by a CPU quota"}
ADDED_COLUMNS = ",reason,resent,address"
CHANGED = {"format", "requests"}  # of a log: one that is logged twice counts once today
# Sentences for people may be reworded: only the figures in them are compared.
SENTENCES = {"sentence", "about", "advice", "rule", "contradictions", "problems", "reason"}

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]


def make_experiments() -> None:
    """The rows that the controller had made before the first batch came."""
    kwargs: dict[str, Any] = {"workers": ("pi1", "pi2"), "status": "FINISHED"}
    batches.make_experiment(
        [[2.0, 20.0], [1.0, 25.0]], [[3.0, 6.0]], shards=2, clients=5, process="expovariate", arrival_parameters=[1.0],
        ids_version=1,
        experiment_id=OPEN, first_shard_id=101, max_connections_per_host=3, interval_s=[0.75, 1.5, 0.75], **kwargs,
    )  # fmt: skip
    batches.make_experiment(
        [[2.0, 4.0]], clients=4, model="closed", ids_version=1, think_time_parameters=[0.2], requests_per_client=9,
        interval_s=0.8, experiment_id=CLOSED, first_shard_id=111, **kwargs,
    )  # fmt: skip
    Shard.objects.filter(id=102).update(attempt=2)
    Shard.objects.filter(id=104).update(status="LOST", reason="no heartbeat for 10 s")
    for version, weights in ((1, [2.0, 1.0]), (2, [1.0, 1.0])):
        RoutingRevision.objects.create(
            service="service0", version=version, hosts=["10.0.0.1:80", "10.0.0.2:80"], weights=weights
        )
    Experiment.objects.update(ended_at=batches.START + timedelta(seconds=3))


def ingest_all() -> None:
    for batch in RECORDED["batches"]:
        ingest(base64.b64decode(batch["message"]))
    for experiment in Experiment.objects.all():
        experiment.summary = summarise(experiment)
        experiment.save()


def answers(api: Client, log: Path) -> dict[str, Any]:
    """What the API and the report tell of both experiments, by address."""
    found: dict[str, Any] = {}
    for experiment_id in (OPEN, CLOSED):
        base = f"/api/experiments/{experiment_id}"
        addresses = [f"{base}/{path}" for path in (
            "traces?limit=1000", "captures", "summary", "series", "series?step=2&service=service0",
            "series?host=10.0.0.2:80", "traces?outcome=timeout&service=service1",
        )]  # fmt: skip
        found |= {address: api.get(address).json() for address in addresses}
        csv = api.get(f"{base}/traces?format=csv")
        found[f"{base}/traces.csv"] = b"".join(csv.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
        printed = StringIO()
        try:
            call_command("report", experiment_id, "--json", "--target-log", str(log), stdout=printed)
        except CommandError:
            found[f"{base}/sound"] = False
        found[f"{base}/report"] = json.loads(printed.getvalue())
    return found


def normalised(value: Any, key: str = "") -> Any:
    """A JSON value with today's names of the keys, without those that were added and without the words of sentences."""
    if key in SENTENCES and value is not None:
        return [re.findall(r"\d+(?:[.,]\d+)*", sentence) for sentence in ([value] if isinstance(value, str) else value)]
    if isinstance(value, dict):
        return {RENAMED.get(name, name): normalised(part, RENAMED.get(name, name)) for name, part in value.items()}
    if isinstance(value, list):
        parts = (part for part in value if not (isinstance(part, dict) and part.get("name") in ADDED_LIMITS))
        return [normalised(part) for part in parts]
    return value


def without_added(found: Any, recorded: Any) -> Any:
    """The found value without what came since the recorded one."""
    if isinstance(found, dict) and isinstance(recorded, dict):
        return {
            name: recorded.get(name) if name in CHANGED else without_added(part, recorded.get(name))
            for name, part in found.items()
            if name in recorded or name not in ADDED
        }
    if isinstance(found, list) and isinstance(recorded, list):
        return [without_added(*parts) for parts in zip_longest(found, recorded)]
    return found


def without_added_columns(lines: list[str]) -> list[str]:
    assert lines[0].endswith(ADDED_COLUMNS)
    return [line.rsplit(",", ADDED_COLUMNS.count(","))[0] for line in lines]


@pytest.fixture
def target_log(tmp_path: Path) -> Path:
    path = tmp_path / "requests.log"
    path.write_text("\n".join(RECORDED["target_log"]) + "\n")
    return path


def test_recorded_batches_give_the_recorded_answers(api: Client, target_log: Path) -> None:
    make_experiments()
    ingest_all()
    found = json.loads(json.dumps(answers(api, target_log)).replace(str(target_log), "requests.log"))
    assert found.keys() == RECORDED["answers"].keys()
    # The log has ids of the open experiment alone: today the report of the closed one says that, and compares nothing.
    for report in (found[CLOSED_REPORT], RECORDED["answers"][CLOSED_REPORT]):
        target, _ = report.pop("target"), report.pop("problems")
        assert report["sound"] is False
        assert [change["change"] for change in target.get("changed_ids", [])] in (["foreign"], [])
    for address, answer in RECORDED["answers"].items():
        now = without_added_columns(found[address]) if address.endswith("traces.csv") else found[address]
        recorded = normalised(answer)
        assert without_added(normalised(now), recorded) == recorded, address


@pytest.mark.parametrize("number", range(len(RECORDED["batches"])))
def test_recorded_batches_can_be_written_again(number: int) -> None:
    batch = RECORDED["batches"][number]
    spooled, message = base64.b64decode(batch["spool"]), base64.b64decode(batch["message"])
    header, records = decode(spooled)
    again = encode_header(header) + records + encode_captures(decode_captures(header, spooled))
    assert decode(again) == (header, records)
    assert decode_captures(header, again) == decode_captures(header, spooled)
    # Another version of zstd may compress to other bytes.
    assert unpack_message(to_message(spooled)) == unpack_message(message)
    assert (spooled[:4], unpack_message(message)[:4]) == (MAGIC, MESSAGE_MAGIC)
