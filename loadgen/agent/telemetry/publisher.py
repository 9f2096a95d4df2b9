"""Publisher: sends this device's telemetry at an interval, and executes the commands on its channel.

It has a thread and connections of its own: it waits for no other thread, and none waits for it. Samples taken while
the broker is away are dropped.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from contextlib import closing
from typing import Any

import psutil
import redis
from redis.exceptions import RedisError

from loadgen.agent.telemetry.instruments import MAX_DEVICES, Instruments, block_devices, net_bytes
from loadgen.broker.subscription import Subscription
from loadgen.device.clock import measure
from loadgen.device.process import stay_in_background
from loadgen.device.redis_connections import brisk_client
from loadgen.protocol.settings import WorkerSettings
from loadgen.protocol.topics import (
    INFO,
    PAUSE,
    UNPAUSE,
    commands_channel,
    node_info_key,
    sample_text,
    telemetry_channel,
)

logger = logging.getLogger(__name__)

# The info hash expires by itself after the device is removed.
INFO_EVERY_S = 20.0
INFO_TTL_S = 60
# The names of Go, in which telemd is written.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}
_CLOCK_ROUNDS = 5
_AWAY_PAUSE_S = 1.0


class TelemetryThread(threading.Thread):
    """Runs until `stop`, or for as long as the process does.

    Args:
        in_background: whether shards get the core first; false where no other thread of the process may wait for this
            one, as it would when this one holds the interpreter but has no core.
    """

    def __init__(self, settings: WorkerSettings, *, in_background: bool) -> None:
        super().__init__(name="telemetry", daemon=True)
        self._redis = settings.redis
        self._node = settings.name
        self._interval_s = settings.telemetry_interval_s
        self._in_background = in_background
        self._stopped = threading.Event()
        self._paused = False
        self._away = False
        self._offset_ns = 0  # broker's clock minus the monotonic one

    def stop(self) -> None:
        """Ends the thread within an interval."""
        self._stopped.set()

    def run(self) -> None:
        if self._in_background:
            stay_in_background()
        while not self._stopped.is_set():
            try:
                self._publish_until_stopped()
            except (RedisError, OSError) as error:
                if not self._away:
                    logger.warning("telemetry stops until the broker answers: %s", error)
                self._away = True
                self._stopped.wait(_AWAY_PAUSE_S)

    def _publish_until_stopped(self) -> None:
        with (
            closing(brisk_client(self._redis)) as client,
            Subscription(client, channels=[commands_channel(self._node)]) as commands,
        ):
            self._introduce(client)
            if self._away:
                logger.info("the broker answers, telemetry continues")
            self._away = False
            instruments = Instruments()
            instruments.read()
            due_s = time.monotonic() + self._interval_s
            introduce_s = time.monotonic() + INFO_EVERY_S
            while not self._stopped.is_set():
                command = commands.get(max(0.0, due_s - time.monotonic()))
                if command is not None:
                    was_paused = self._paused
                    self._execute(command.payload, client)
                    if was_paused and not self._paused:
                        instruments.read()  # rates are measured from now on
                        due_s = time.monotonic() + self._interval_s
                now_s = time.monotonic()
                if now_s >= introduce_s:
                    self._introduce(client)
                    introduce_s = now_s + INFO_EVERY_S
                if now_s >= due_s:
                    due_s = max(due_s + self._interval_s, now_s)
                    if not self._paused:
                        self._publish(client, instruments)

    def _publish(self, client: redis.Redis, instruments: Instruments) -> None:
        timestamp_ns = time.monotonic_ns() + self._offset_ns
        pipeline: Any = client.pipeline(transaction=False)
        for metric, subsystem, value in instruments.read():
            pipeline.publish(telemetry_channel(self._node, metric, subsystem), sample_text(timestamp_ns, value))
        pipeline.execute()

    def _introduce(self, client: redis.Redis) -> None:
        """Writes the info hash again, and reads the broker's clock."""
        key = node_info_key(self._node)
        pipeline: Any = client.pipeline(transaction=True)
        pipeline.hset(key, mapping=node_info())
        pipeline.expire(key, INFO_TTL_S)
        pipeline.execute()
        self._offset_ns = measure(client, _CLOCK_ROUNDS).offset_ns

    def _execute(self, payload: bytes, client: redis.Redis) -> None:
        command = payload.decode(errors="replace").strip()
        if command in (PAUSE, UNPAUSE):
            self._paused = command == PAUSE
            logger.info("telemetry is %sd", command)
        elif command == INFO:
            self._introduce(client)
        else:
            logger.warning("telemetry: the command %.40r is unknown; known are pause, unpause and info", command)


def node_info() -> dict[str, str]:
    """Returns the fields of the hash `telemd.info:<node>`, in the units of telemd."""
    return {
        "arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "cpus": str(os.cpu_count() or 1),
        "ram": str(psutil.virtual_memory().total // 1024),
        "boot": str(int(psutil.boot_time())),
        "disk": " ".join(block_devices()[:MAX_DEVICES]),
        "net": " ".join(sorted(net_bytes())[:MAX_DEVICES]),
        "hostname": platform.node(),
        "netspeed": _net_speed(),
    }


def _net_speed() -> str:
    """Returns the speed of the fastest interface that is up, in Mbit/s, or '' if none is known."""
    speeds = [nic.speed for name, nic in psutil.net_if_stats().items() if nic.isup and name != "lo"]
    return str(max(speeds)) if any(speed > 0 for speed in speeds) else ""
