"""Agent: the worker's second process, for heartbeats, telemetry, forwarding of batches and supervision of shards.

    python -m loadgen.agent.main --worker-pid PID --instance ID --started-ns NS [--takes-over ID] [--drain]

The worker's main process starts it, and starts it again when it dies. Its state is the files in the spool, so it may be
killed at any time. SIGTERM, which the kernel also sends when the main process dies, drains the worker: shards end,
batches are forwarded, the worker deregisters, all within DRAIN_S.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import signal
import sys
import threading
import time

from redis.exceptions import RedisError

from loadgen.agent.forwarder import BrokerAwayError, Forwarder
from loadgen.agent.heartbeat import DRAINING, READY, Heartbeat, Instance
from loadgen.agent.ingest_link import RedisIngest
from loadgen.agent.supervision import Supervisor
from loadgen.agent.telemetry.publisher import TelemetryThread
from loadgen.agent.trace_log import open_trace_log
from loadgen.device.cores import usable_cores
from loadgen.device.process import follow_parent, stay_in_background
from loadgen.device.redis_connections import blocking_client, brisk_client
from loadgen.device.registry import NameTakenError
from loadgen.device.spool import Spool
from loadgen.interruption import Interruption
from loadgen.protocol.keys import WORKER_HEARTBEAT_S
from loadgen.protocol.logs import set_up_logging
from loadgen.protocol.settings import WorkerSettings, read_worker
from routing.errors import InvalidInput

logger = logging.getLogger(__name__)

DRAIN_S = 18.0
EXIT_NAME_TAKEN = 3
_TURN_S = 0.25
_SUPERVISE_EVERY_S = 1.0
_AWAY_PAUSE_S = 1.0


class ForwarderThread(threading.Thread):
    """Runs the forwarder until `stop`. A lock in the spool's folder ensures that one agent at a time forwards it.

    Args:
        in_background: whether shards get the core first. Forwarding a row takes less than 3 % of the time of making
            it, and the thread keeps a tenth of a core; longer work must not fall behind shards that use all cores.
    """

    def __init__(self, forwarder: Forwarder, spool: Spool, *, in_background: bool) -> None:
        # A daemon, so that a broker that does not answer cannot delay the agent's end.
        super().__init__(name="forwarder", daemon=True)
        self._forwarder = forwarder
        self._spool = spool
        self._in_background = in_background
        self._stopped = threading.Event()
        self.is_idle = False  # every batch is acknowledged

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        if self._in_background:
            stay_in_background()
        with (self._spool.directory / "agent.lock").open("w") as lock:
            while not self._stopped.is_set() and not _is_locked(lock.fileno()):
                self._stopped.wait(_TURN_S)
            self._spool.remove_temporary(older_than_s=60.0)
            away = False
            while not self._stopped.is_set():
                try:
                    done = self._forwarder.step(wait_s=_TURN_S)
                except BrokerAwayError as error:
                    if not away:
                        logger.warning("batches wait in the spool, the broker is away: %s", error)
                    away = True
                    self._stopped.wait(_AWAY_PAUSE_S)
                    continue
                if away:
                    logger.info("the broker is back")
                away = False
                self.is_idle = not done and not self._forwarder.unacknowledged
                if self.is_idle:
                    self._stopped.wait(_TURN_S)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Agent:
    """Runs heartbeat, supervision and drain in one loop, and the forwarder and telemetry in threads of their own."""

    def __init__(self, settings: WorkerSettings, instance: Instance, interruption: Interruption) -> None:
        self._interruption = interruption
        self._spool = Spool(settings.spool_dir, settings.spool_limit_bytes)
        client = brisk_client(settings.redis)
        self._heartbeat = Heartbeat(client, settings, instance, self._spool)
        self._supervisor = Supervisor(client, self._spool, settings.name, settings.queues, settings.slots, instance.pid)
        broker = blocking_client(settings.redis)
        trace_log = open_trace_log(settings, broker)
        forwarder = Forwarder(self._spool, RedisIngest(settings, broker), settings.ingest_queues, trace_log=trace_log)
        in_background = trace_log is None
        self._forwarding = ForwarderThread(forwarder, self._spool, in_background=in_background)
        self._threads: list[ForwarderThread | TelemetryThread] = [self._forwarding]
        if settings.telemetry_interval_s:
            self._threads.append(TelemetryThread(settings, in_background=in_background))
        self._away = False
        self._name_taken = False

    def run(self) -> int:
        """Works until the interruption, drains the worker, and returns the exit status."""
        self._spool.open()
        for thread in self._threads:
            thread.start()
        try:
            self._watch()
            if self._interruption.number is not None:
                self._drain()
            # Otherwise the forwarder died of an error; the main process starts the agent again.
            status = 0 if self._forwarding.is_alive() else 1
        finally:
            for thread in self._threads:
                thread.stop()
        return EXIT_NAME_TAKEN if self._name_taken else status

    def _watch(self) -> None:
        beat_due_s = supervise_due_s = time.monotonic()
        while self._interruption.number is None and self._forwarding.is_alive():
            now_s = time.monotonic()
            if now_s >= beat_due_s:
                beat_due_s = now_s + (WORKER_HEARTBEAT_S if self._beat(READY) else _AWAY_PAUSE_S)
            if now_s >= supervise_due_s:
                supervise_due_s = now_s + _SUPERVISE_EVERY_S
                with contextlib.suppress(RedisError):  # the heartbeat has logged it
                    self._supervisor.report_deaths()
                    self._supervisor.enforce_stops()
                    self._supervisor.reconnect_if_stuck()
            time.sleep(_TURN_S)

    def _drain(self) -> None:
        logger.info("the worker drains")
        end_at_s = time.monotonic() + DRAIN_S
        beat_due_s = 0.0
        idle_turns = 0
        while time.monotonic() < end_at_s and idle_turns < 2 and self._forwarding.is_alive():
            shards = self._supervisor.drain()
            with contextlib.suppress(RedisError):  # the next start reports them then
                self._supervisor.report_deaths()
            now_s = time.monotonic()
            if now_s >= beat_due_s:
                beat_due_s = now_s + WORKER_HEARTBEAT_S
                self._beat(DRAINING)
            is_done = not shards and self._forwarding.is_idle and not self._spool.scan()
            idle_turns = idle_turns + 1 if is_done else 0
            time.sleep(_TURN_S)
        left = len(self._spool.scan())
        if left:
            logger.warning("%s batches stay in the spool for the next start", left)
        try:
            self._heartbeat.leave()
        except RedisError as error:
            logger.warning("the worker could not be deregistered, its registration expires: %s", error)

    def _beat(self, status: str) -> bool:
        """Sends a heartbeat. Returns False if the broker is away. Drains this worker if another one has its name."""
        if self._name_taken:
            return True
        try:
            self._heartbeat.beat(status)
        except NameTakenError as error:
            logger.error("%s", error)
            self._name_taken = True
            self._interruption.arrive(signal.SIGTERM)
        except RedisError as error:
            if not self._away:
                logger.warning("no heartbeat, the broker is away: %s", error)
            self._away = True
            return False
        self._away = False
        return True


def main(arguments: list[str] | None = None) -> int:
    """Runs the agent of a worker. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadgen.agent.main", description="The agent of a Galileo worker.")
    parser.add_argument("--worker-pid", type=int, required=True)
    parser.add_argument("--instance", required=True)
    parser.add_argument("--started-ns", type=int, required=True)
    parser.add_argument("--takes-over", default="")
    parser.add_argument("--drain", action="store_true")
    options = parser.parse_args(arguments)
    try:
        settings = read_worker(cores=usable_cores())
        set_up_logging(settings.logging_level, "agent")
        instance = Instance(options.instance, options.worker_pid, options.started_ns, options.takes_over)
        interruption = Interruption(signal.SIGTERM)
        agent = Agent(settings, instance, interruption)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends the agent by SIGTERM
        with interruption:
            if not follow_parent(signal.SIGTERM, options.worker_pid) or options.drain:
                interruption.arrive(signal.SIGTERM)
            return agent.run()
    except InvalidInput as invalid:
        sys.stderr.write(f"{invalid.text}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
