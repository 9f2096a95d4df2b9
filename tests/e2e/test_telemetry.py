"""Telemetry from the agents' own instruments into an experiment, with a recorder that is killed in the middle."""

from __future__ import annotations

import time

from tests.support.galileo import Galileo
from tests.support.http_target import HttpTarget
from tests.support.plans import plan_data
from tests.support.waiting import wait_for

RECORDER = "import threading; from experiments.recording import Recorder; Recorder().run(threading.Event())"


def is_recording(galileo: Galileo) -> bool:
    return bool(galileo.broker().pubsub_channels("galileo/events"))


def start_recorder(galileo: Galileo) -> None:
    galileo.start_controller("recorder", "manage", "shell", "-c", RECORDER)
    wait_for(lambda: is_recording(galileo), "the recorder to listen")


def samples_of(galileo: Galileo, experiment_id: str) -> int:
    return galileo.query("SELECT count(*) FROM experiments_telemetrysample WHERE experiment_id = ?", experiment_id)[0][
        0
    ]


def test_telemetry_is_recorded_across_a_killed_recorder(galileo: Galileo, target: HttpTarget) -> None:
    start_recorder(galileo)
    try:
        routing = [{"service": "web", "hosts": [target.host], "weights": [1]}]
        experiment_id = galileo.begin(plan_data(duration=7, interval=7, ticks=[20], routing=routing))
        galileo.wait_for_status(experiment_id, "RUNNING")
        wait_for(lambda: samples_of(galileo, experiment_id) > 20, "samples")
        galileo.kill("recorder")
        wait_for(lambda: not is_recording(galileo), "the end of the recorder")
        start_recorder(galileo)
        before = samples_of(galileo, experiment_id)
        galileo.broker().publish("galileo/events", f"{time.time()} scaled-up web 3")
        galileo.broker().publish("telem/worker-a/cpu", "nonsense")
        wait_for(lambda: samples_of(galileo, experiment_id) > before + 20, "more samples")
        galileo.wait_for_status(experiment_id, "FINISHED")
    finally:
        galileo.stop("recorder")

    series = set(
        galileo.query(
            "SELECT DISTINCT node, metric FROM experiments_telemetrysample WHERE experiment_id = ?", experiment_id
        )
    )
    assert {(node, metric) for node in ("worker-a", "worker-b") for metric in ("cpu", "ram", "load1")} <= series
    nodes = galileo.query("SELECT node FROM experiments_nodeinfo WHERE experiment_id = ? ORDER BY node", experiment_id)
    assert nodes == [("worker-a",), ("worker-b",)]
    report = galileo.report(experiment_id)
    assert [event["value"] for event in report["summary"]["events"] if event["name"] == "scaled-up"] == ["web 3"]
    telemetry = report["telemetry"]
    assert [node["node"] for node in telemetry["nodes"]] == ["worker-a", "worker-b"]
    assert all(0 < node["cpu_mean_share"] <= node["cpu_max_share"] <= 1 for node in telemetry["nodes"])
    assert all(0 < node["ram_max_bytes"] < node["ram_bytes"] for node in telemetry["nodes"])
    assert (telemetry["unparsable"], telemetry["dropped"]) == (1, 0)
    assert galileo.children["recorder"].process.returncode is not None
