"""Fence: at most one attempt of a shard runs, each attempt runs once, and only the newest one writes its status.

The lease names the attempt that runs now; the newest attempt that ever ran is stored beside it, and outlives the lease.
Each step is one Lua script, so that the steps of two attempts cannot interleave.
"""

from __future__ import annotations

import asyncio
import secrets

import redis
import redis.asyncio

from loadgen.protocol.codec import to_json
from loadgen.protocol.enums import ENDS
from loadgen.protocol.keys import LEASE_TTL_MS, SHARD_STATUS_TTL_S, lease_key, newest_attempt_key, shard_key
from loadgen.protocol.messages import ShardOrder, ShardStatus

# KEYS of all scripts: lease, newest attempt, status. The newest attempt is "<attempt> <group>": a shard's number is
# used again for another group when the controller's database is new, and then it fences nothing.
_NEWEST = """
local function newest(key, group)
  local attempt, of = string.match(redis.call('GET', key) or '', '^(%d+) (.*)$')
  if of == group then return tonumber(attempt) end
  return 0
end
"""

# ARGV: our lease's value, our attempt, our group, TTL of the lease in ms, TTL of the newest attempt in s, how ("first",
# "waiting" or "again"), and the time in µs after which a first try is void ("": never). A lower attempt's lease is not
# taken away: its renewal fails from now on, and we wait until it is given back or has expired, so that no two send at a
# time. If the broker's clock was set back, the lease would last for longer than its TTL: it is shortened to that.
_TAKE = (
    _NEWEST
    + """
local attempt = tonumber(ARGV[2])
if ARGV[6] == 'first' and ARGV[7] ~= '' then
  local now = redis.call('TIME')
  if now[1] * 1000000 + now[2] > tonumber(ARGV[7]) then return 'void' end
end
local held = redis.call('GET', KEYS[1])
local known = newest(KEYS[2], ARGV[3])
if known > attempt or (known == attempt and ARGV[6] == 'first' and held ~= ARGV[1]) then return 'stale' end
local holder = held and held ~= ARGV[1] and tonumber(string.match(held, '^(%d+):'))
if holder and holder >= attempt then return 'stale' end
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. ARGV[3], 'EX', ARGV[5])
if holder then
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
  return 'wait'
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 'taken'
"""
)

# ARGV: our lease's value, our attempt, our group, the status, its TTL in s.
_WRITE_STATUS = (
    _NEWEST
    + """
local held = redis.call('GET', KEYS[1])
if (held and held ~= ARGV[1]) or newest(KEYS[2], ARGV[3]) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
return 1
"""
)

# ARGV: the dead process's attempt, its group, its last status, TTL of that in s, the states that are ends. Only the
# newest attempt is declared lost, and only if it has not reported an end of its own.
_DECLARE_LOST = (
    _NEWEST
    + """
if newest(KEYS[2], ARGV[2]) ~= tonumber(ARGV[1]) then return 0 end
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^(%d+):') == ARGV[1] then redis.call('DEL', KEYS[1]) end
local ok, status = pcall(cjson.decode, redis.call('GET', KEYS[3]) or '')
if ok and type(status) == 'table' and status.attempt == tonumber(ARGV[1]) then
  for index = 5, #ARGV do
    if status.state == ARGV[index] then return 0 end
  end
end
redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
return 1
"""
)

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


TAKEN, STALE, VOID, WAIT = "taken", "stale", "void", "wait"
_WAIT_POLL_S = 0.25


class Fence:
    """The fence of one attempt of a shard. Redis' errors pass through."""

    def __init__(self, client: redis.asyncio.Redis, order: ShardOrder, lease_ttl_ms: int = LEASE_TTL_MS) -> None:
        self._keys = _keys(order.shard_id)
        self._owner = [f"{order.attempt}:{secrets.token_hex(8)}", str(order.attempt), order.group_id]
        void_after_ns = order.void_after_broker_ns
        self._void_after_us = "" if void_after_ns is None else str(void_after_ns // 1000)
        self._lease_ttl_ms = lease_ttl_ms
        self._take = client.register_script(_TAKE)
        self._write_status = client.register_script(_WRITE_STATUS)
        self._release = client.register_script(_RELEASE)

    async def acquire(self) -> str:
        """Takes the lease as soon as no lower attempt holds it; returns TAKEN.

        Returns STALE for a stale attempt and for a second copy of this one, VOID when the order has expired.
        """
        result = await self._run_take("first")
        while result == WAIT:
            await asyncio.sleep(_WAIT_POLL_S)
            result = await self._run_take("waiting")
        return result

    async def renew(self) -> bool | None:
        """Renews the lease, also one that Redis has lost; returns False if another attempt holds or held it since.

        Returns None while a lower attempt holds it (a Redis that came back empty has lost the order of the two).
        """
        return {TAKEN: True, WAIT: None}.get(await self._run_take("again"), False)

    async def write_status(self, status: ShardStatus) -> bool:
        """Stores the status unless another attempt holds the shard; returns whether it was stored."""
        args = [*self._owner, to_json(status), str(SHARD_STATUS_TTL_S)]
        return bool(await self._write_status(keys=self._keys, args=args))

    async def release(self) -> None:
        """Deletes the lease, if it is still this attempt's."""
        await self._release(keys=self._keys, args=self._owner[:1])

    async def _run_take(self, how: str) -> str:
        args = [*self._owner, str(self._lease_ttl_ms), str(SHARD_STATUS_TTL_S), how, self._void_after_us]
        result: bytes = await self._take(keys=self._keys, args=args)
        return result.decode()


def declare_lost(client: redis.Redis, group_id: str, status: ShardStatus) -> None:
    """Declares an attempt lost whose process is dead, and removes its lease; does nothing if a newer one runs, or ran.

    Redis' errors pass through.
    """
    args = [str(status.attempt), group_id, to_json(status), str(SHARD_STATUS_TTL_S), *ENDS]
    client.register_script(_DECLARE_LOST)(keys=_keys(status.shard_id), args=args)


def _keys(shard_id: int) -> list[str]:
    return [lease_key(shard_id), newest_attempt_key(shard_id), shard_key(shard_id)]
