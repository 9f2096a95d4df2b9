"""Starts a worker: `python -m loadgen.worker`. The exit status is 2 for invalid settings, 1 for a name in use."""

from __future__ import annotations

import logging
import sys
import time

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from loadgen.agent.trace_log import csv_trace_log
from loadgen.device.cgroup import quota_cores
from loadgen.device.cores import usable_cores
from loadgen.device.process import raise_descriptor_limit
from loadgen.device.redis_connections import brisk_client
from loadgen.device.registry import NameTakenError, free_name
from loadgen.device.spool import Spool
from loadgen.protocol.logs import set_up_logging
from loadgen.protocol.settings import FILE, RedisSettings, WorkerSettings, read_worker
from routing.errors import Code, InvalidInput

logger = logging.getLogger(__name__)

_WAIT_S = 3.0


def wait_for_name(settings: WorkerSettings) -> str:
    """Waits for Redis, then for the worker's name to be free. Returns the dead instance that still holds it, or ''.

    Raises:
        NameTakenError: a live worker has the name.
        InvalidInput: Redis refuses the user or its password, or does not permit it what a worker needs.
    """
    client = brisk_client(settings.redis)
    try:
        while True:
            try:
                return free_name(client, settings.name)
            except (AuthenticationError, NoPermissionError) as error:
                raise _refused(settings.redis, error) from error
            except RedisError as error:
                where = f"{settings.redis.host}:{settings.redis.port}"
                logger.warning("waiting for Redis at %s: %s", where, error)
                time.sleep(_WAIT_S)
    finally:
        client.close()


def _refused(settings: RedisSettings, error: RedisError) -> InvalidInput:
    if isinstance(error, NoPermissionError):
        message = f"Redis does not permit this user all commands, keys and channels (ACL rules ~* &* +@all): {error}"
        return InvalidInput.of("galileo_redis_username", Code.CONFLICT, message)
    who = f"for the user {settings.username!r} of galileo_redis_username" if settings.username else ""
    return InvalidInput.of("galileo_redis_password", Code.CONFLICT, f"Redis refuses it {who}".rstrip() + f": {error}")


def main() -> int:
    """Runs a worker in this process until it is stopped. Returns the exit status."""
    try:
        settings = read_worker(cores=usable_cores())
        set_up_logging(settings.logging_level, "%(processName)s")
        if (quota := quota_cores()) is not None:
            logger.info("a CPU quota grants this worker %.4g cores; it counts as %d", quota, usable_cores())
        Spool(settings.spool_dir, settings.spool_limit_bytes).open()
        if settings.trace_logging == FILE:
            csv_trace_log(settings).open()
        predecessor = wait_for_name(settings)
    except InvalidInput as invalid:
        sys.stderr.write(f"{invalid.text}\n")
        return 2
    except NameTakenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    raise_descriptor_limit()
    from loadgen.celery import agent_process, app  # it reads the settings, which have been checked now

    agent_process.predecessor = predecessor
    node = ["-n", f"{settings.name}@%h", "--loglevel", settings.logging_level]
    try:
        app.worker_main(["worker", "--without-gossip", "--without-mingle", *node])
    finally:
        agent_process.finish()  # a cold shutdown sends no signal of Celery
    return 1 if agent_process.name_taken else 0


if __name__ == "__main__":
    sys.exit(main())
