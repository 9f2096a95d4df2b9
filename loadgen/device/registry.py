"""Registry: the registration of a worker's name."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import redis

from loadgen.device.process import boot_id, facts_of
from loadgen.protocol.codec import MessageError, from_json, to_json
from loadgen.protocol.keys import WORKER_TTL_S, WORKERS_KEY, worker_key
from loadgen.protocol.messages import WorkerInfo

_POLL_S = 0.25

# KEYS: the worker's key, the set of names. ARGV: info, TTL in s, name, instance, the predecessor that it replaces.
# Returns 0 if another instance holds the name.
_HOLD = """
local held = redis.call('GET', KEYS[1])
if held then
  local ok, info = pcall(cjson.decode, held)
  if ok and type(info) == 'table' and info.instance ~= ARGV[4] and info.instance ~= ARGV[5] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
return 1
"""

# KEYS: the worker's key, the set of names. ARGV: instance, name.
_LEAVE = """
local held = redis.call('GET', KEYS[1])
if held then
  local ok, info = pcall(cjson.decode, held)
  if ok and type(info) == 'table' and info.instance == ARGV[1] then
    redis.call('SREM', KEYS[2], ARGV[2])
    return redis.call('DEL', KEYS[1])
  end
end
return 0
"""


class NameTakenError(Exception):
    """Another live worker has the name; the message gives its process and host."""


class Registry:
    """Holds a worker's name for one of its instances. Errors of Redis pass through."""

    def __init__(self, client: redis.Redis, name: str, instance: str, predecessor: str = "") -> None:
        self._client = client
        self._name = name
        self._instance = instance
        self._predecessor = predecessor
        self._hold = client.register_script(_HOLD)
        self._leave = client.register_script(_LEAVE)

    def hold(self, info: WorkerInfo) -> None:
        """Registers the worker or renews its registration.

        Raises:
            NameTakenError: an instance other than the predecessor holds the name.
        """
        keys = [worker_key(self._name), WORKERS_KEY]
        args = [to_json(info), str(WORKER_TTL_S), self._name, self._instance, self._predecessor]
        if not self._hold(keys=keys, args=args):
            holder = read_worker_info(self._client, self._name)
            raise NameTakenError(_taken(holder) if holder else f"another worker holds the name {self._name!r}")

    def leave(self) -> None:
        """Deregisters the worker, unless another instance holds the name."""
        self._leave(keys=[worker_key(self._name), WORKERS_KEY], args=[self._instance, self._name])


def read_worker_info(client: redis.Redis, name: str) -> WorkerInfo | None:
    """Returns the registration of a worker, or None if it is not alive or its message has an unknown version."""
    text = client.get(worker_key(name))
    try:
        return from_json(WorkerInfo, text) if isinstance(text, str | bytes) else None
    except MessageError:
        return None


def free_name(client: redis.Redis, name: str, sleep: Callable[[float], None] = time.sleep) -> str:
    """Checks that no live worker has the name. Returns the dead instance that still holds it, or ''.

    A holder on this boot of this machine is dead if its process has ended. Any other holder is dead if it does not
    renew its registration before that expires, for which this function waits up to WORKER_TTL_S.

    Raises:
        NameTakenError: the holder is alive.
    """
    first = read_worker_info(client, name)
    if first is None:
        return ""
    if first.boot_id == boot_id() and first.hostname == platform.node():
        if facts_of(first.pid) is not None:
            raise NameTakenError(_taken(first))
        return first.instance
    for _ in range(int((WORKER_TTL_S + 1) / _POLL_S)):
        sleep(_POLL_S)
        now = read_worker_info(client, name)
        if now is None:
            return ""
        if (now.instance, now.heartbeat_broker_ns) != (first.instance, first.heartbeat_broker_ns):
            raise NameTakenError(_taken(now))
    return first.instance


def _taken(holder: WorkerInfo) -> str:
    return (
        f"galileo_worker_name: a live worker has the name {holder.name!r} already "
        f"(process {holder.pid} on {holder.hostname}); choose another name or stop that worker"
    )
