"""The agent's telemetry: its metrics, and how they are published, paused and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from loadgen.agent.telemetry.instruments import Instruments, Quota, Rates, block_devices, disk_bytes
from loadgen.agent.telemetry.publisher import TelemetryThread, node_info
from loadgen.broker.subscription import PING_EVERY_S, SILENT_S, Subscription
from loadgen.device.cgroup import CpuGroup
from loadgen.protocol.settings import WorkerSettings
from loadgen.protocol.topics import Sample, commands_channel, node_info_key, parse_sample
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.worker_process import settings_for

INTERVAL_S = 0.1


def settings(server: RedisServer, **fields: Any) -> WorkerSettings:
    return replace(settings_for(server, "pi-1", Path("/nowhere")), telemetry_interval_s=INTERVAL_S, **fields)


@contextmanager
def running(wanted: WorkerSettings) -> Iterator[TelemetryThread]:
    thread = TelemetryThread(wanted, in_background=False)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
        thread.join(10)
        assert not thread.is_alive()


class Heard:
    """The messages that are published on telem/*."""

    def __init__(self, client: redis.Redis) -> None:
        self._subscription = Subscription(client, patterns=["telem/*"])

    def __enter__(self) -> Heard:
        self._subscription.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.__exit__(None, None, None)

    def until(self, metric: str, count: int = 1, within_s: float = 10.0) -> list[Sample]:
        """Returns all samples up to the `count`th one of a metric."""
        samples: list[Sample] = []
        end_s = time.monotonic() + within_s
        while sum(sample.metric == metric for sample in samples) < count:
            assert time.monotonic() < end_s, f"{count} of {metric} did not come: {samples}"
            published = self._subscription.get(0.1)
            if published is not None:
                samples.append(parse_sample(published.channel, published.payload))
        return samples

    def nothing_for(self, seconds: float) -> bool:
        """Returns whether no sample arrives after those that were on their way."""
        while self._subscription.get(2 * INTERVAL_S) is not None:
            pass
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if self._subscription.get(INTERVAL_S) is not None:
                return False
        return True


@pytest.fixture
def heard(store: redis.Redis) -> Iterator[Heard]:
    with Heard(store) as listening:
        yield listening


# --- instruments ------------------------------------------------------------------------------------------------------


def test_every_instrument_has_its_name_and_a_sensible_value() -> None:
    clock = iter([0, 2_000_000_000])
    instruments = Instruments(lambda: next(clock))
    first = {reading.metric for reading in instruments.read()}
    spin_until = time.monotonic() + 0.05
    while time.monotonic() < spin_until:
        pass
    readings = {(reading.metric, reading.subsystem): reading.value for reading in instruments.read()}

    assert "cpu" not in first and not first & {"rd", "wr", "rx", "tx"}
    assert 0 < readings["cpu", ""] <= 100
    assert 0 < readings["ram", ""] * 1024 < psutil.virtual_memory().total
    assert readings["load1", ""] >= 0 and readings["load5", ""] >= 0
    assert readings["procs", ""] >= 1
    assert {subsystem for metric, subsystem in readings if metric == "rd"} == set(disk_bytes())
    assert not any(subsystem == "lo" for _, subsystem in readings)
    if Path("/proc/pressure/cpu").exists():
        assert readings["psi_cpu", "some"] > 0
    assert all(value >= 0 for value in readings.values())


def test_rates_are_kilobytes_per_second_of_the_devices_that_stay() -> None:
    counts = [
        {"eth0": (1_000, 0), "wlan0": (5, 5), "tun0": (9, 9)},
        {"eth0": (5_000, 8_000_000), "wlan0": (0, 5_005), "new0": (7, 7)},
    ]
    rates = Rates("rx", "tx", lambda: counts.pop(0))
    assert list(rates(0.0)) == []
    # wlan0's counter began again on one side; tun0 has gone, and new0 has just come.
    assert list(rates(2.0)) == [("rx", "eth0", 2.0), ("tx", "eth0", 4_000.0), ("tx", "wlan0", 2.5)]


def test_throttled_share_is_that_since_the_last_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def counted(periods: int, throttled: int) -> list[CpuGroup]:
        (tmp_path / "cpu.max").write_text("20000 100000")
        (tmp_path / "cpu.stat").write_text(f"nr_periods {periods}\nnr_throttled {throttled}\n")
        return [CpuGroup(tmp_path)]

    steps = iter([counted, counted, counted, lambda *_: []])
    counts = iter([(100, 50), (110, 59), (110, 59), (0, 0)])
    monkeypatch.setattr("loadgen.agent.telemetry.instruments.limited_groups", lambda: next(steps)(*next(counts)))
    quota = Quota()
    assert list(quota(0.0)) == [("cpu_quota", "", 0.2)]
    assert list(quota(1.0)) == [("cpu_quota", "", 0.2), ("cpu_throttled", "", 90.0)]
    assert list(quota(1.0)) == [("cpu_quota", "", 0.2), ("cpu_throttled", "", 0.0)]
    assert list(quota(1.0)) == []  # the quota was removed


def test_tightest_quota_and_the_most_throttled_group_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups = []
    for name, quota, throttled in (("own", 50_000, 5), ("above", 200_000, 0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cpu.max").write_text(f"{quota} 100000")
        (folder / "cpu.stat").write_text(f"nr_periods 10\nnr_throttled {throttled}\n")
        groups.append(CpuGroup(folder))
    monkeypatch.setattr("loadgen.agent.telemetry.instruments.limited_groups", lambda: groups)
    instrument = Quota()
    list(instrument(0.0))
    (tmp_path / "above" / "cpu.stat").write_text("nr_periods 20\nnr_throttled 4\n")
    assert list(instrument(1.0)) == [("cpu_quota", "", 0.5), ("cpu_throttled", "", 40.0)]


def test_an_instrument_that_fails_is_left_out_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("loadgen.agent.telemetry.instruments._LOADAVG", tmp_path / "gone")
    instruments = Instruments()
    metrics = [{reading.metric for reading in instruments.read()} for _ in range(2)]

    assert all("ram" in each and "load1" not in each for each in metrics)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["telemetry of load cannot be read"]


def test_a_node_is_described_in_the_fields_of_telemd() -> None:
    info = node_info()

    assert set(info) == {"arch", "cpus", "ram", "boot", "disk", "net", "hostname", "netspeed"}
    assert int(info["ram"]) * 1024 == psutil.virtual_memory().total
    assert abs(int(info["boot"]) - psutil.boot_time()) < 2
    assert info["disk"].split() == block_devices()
    assert "lo" not in info["net"].split()


# --- publishing -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_telemetry_has_the_brokers_time_and_the_node_is_listed(
    redis_server: RedisServer, store: redis.Redis, heard: Heard
) -> None:
    with running(settings(redis_server)):
        samples = heard.until("cpu", count=3)
        seconds, _ = store.time()

    cpu = [sample for sample in samples if sample.metric == "cpu"]
    assert {sample.node for sample in samples} == {"pi-1"}
    assert {"cpu", "ram", "load1", "load5", "procs"} <= {sample.metric for sample in samples}
    assert [sample.timestamp_ns for sample in cpu] == sorted({sample.timestamp_ns for sample in cpu})
    assert all(abs(sample.timestamp_ns / 1e9 - seconds) < 30 for sample in samples)
    info = store.hgetall(node_info_key("pi-1"))
    assert int(info[b"ram"]) * 1024 == psutil.virtual_memory().total
    assert 0 < store.ttl(node_info_key("pi-1")) <= 60


@pytest.mark.slow
def test_a_node_executes_pause_unpause_and_info(redis_server: RedisServer, store: redis.Redis, heard: Heard) -> None:
    channel = commands_channel("pi-1")
    with running(settings(redis_server)):
        heard.until("cpu")
        assert store.publish(channel, "nonsense") == 1
        assert store.publish(channel, "pause") == 1
        assert heard.nothing_for(4 * INTERVAL_S)
        store.delete(node_info_key("pi-1"))
        store.publish(channel, "info")
        wait_for(lambda: store.exists(node_info_key("pi-1")), "the info hash", 10)
        store.publish(channel, "unpause")
        heard.until("cpu", count=2)
    wait_for(lambda: not store.pubsub_channels("telemcmd/*"), "the end of the subscription", 10)


@pytest.mark.slow
def test_telemetry_comes_back_after_the_broker_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with RedisServer(tmp_path) as server, running(settings(server)):
        with server.client() as client, Heard(client) as heard:
            heard.until("cpu")
        server.stop()
        wait_for(lambda: "telemetry stops until" in caplog.text, "the log of the outage", 10)
        time.sleep(1.5)
        server.start()
        with server.client() as client, Heard(client) as heard:
            heard.until("cpu", count=2)
            wait_for(lambda: client.pubsub_channels("telemcmd/*"), "the node to listen", 10)
    assert caplog.text.count("telemetry stops until") == 1
    assert caplog.text.count("telemetry continues") == 1


# --- subscriptions ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_subscription_whose_connection_is_forgotten_notices(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PING_EVERY_S < SILENT_S
    monkeypatch.setattr("loadgen.broker.subscription.PING_EVERY_S", 0.1)
    monkeypatch.setattr("loadgen.broker.subscription.SILENT_S", 0.5)
    with Proxy(redis_server.port) as proxy:
        url = f"redis://:{redis_server.password}@127.0.0.1:{proxy.port}/0"
        with redis.Redis.from_url(url) as client, Subscription(client, channels=["news"]) as subscription:
            end_s = time.monotonic() + 1.2  # silent for longer than is allowed, but answering
            while time.monotonic() < end_s:
                assert subscription.get(0.1) is None
            store.publish("news", "heard")
            wait_for(lambda: (subscription.get(0.1) or (0, 0))[1] == b"heard", "the news", 5)
            proxy.freeze_established()
            with pytest.raises(redis.ConnectionError, match="has not answered"):
                for _ in range(100):
                    subscription.get(0.1)
