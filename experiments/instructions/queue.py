"""InstructionQueue: the Redis lists of pushed instructions, and of instructions that are being processed.

A daemon that is killed at any moment neither loses an instruction nor processes it twice. It moves an instruction
atomically into the list of those being processed, where it stays until its experiment is committed. There it gets an
id, atomically, too; the experiment is stored with that id, which is unique. A daemon that finds the instruction in the
list later, after a crash or while another daemon runs, can look up the experiment by that id.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from experiments.instructions.message import MAX_BYTES
from loadgen.protocol.keys import INSTRUCTIONS_KEY, INSTRUCTIONS_PROCESSING_KEY

_WITH_ID = re.compile(rb"ticket:([0-9a-f]{32}):(.*)", re.DOTALL)
# Returns the oldest entry, and gives it an id if it has none; an entry above the permitted size is truncated.
_OLDEST = """
local entry = redis.call('LINDEX', KEYS[1], -1)
if entry and not string.find(entry, '^ticket:' .. string.rep('[0-9a-f]', 32) .. ':') then
    entry = 'ticket:' .. ARGV[1] .. ':' .. string.sub(entry, 1, tonumber(ARGV[2]))
    redis.call('LSET', KEYS[1], -1, entry)
end
return entry
"""
# A single try, which fails after a few seconds, so that the daemon can stop soon after a signal.
_NO_RETRIES: dict[str, Any] = {"socket_timeout": 3, "socket_connect_timeout": 2, "retry": Retry(NoBackoff(), 0)}


@dataclass(frozen=True)
class Entry:
    """An instruction that is being processed: the entry of the list, the instruction's id, and the pushed message."""

    stored: bytes
    instruction_id: str
    pushed: bytes


def make_client() -> redis.Redis:
    """A Redis client for InstructionQueue; threads may share it."""
    return redis.Redis.from_url(settings.GALILEO_REDIS_URL, **{**settings.GALILEO_REDIS_OPTIONS, **_NO_RETRIES})


class InstructionQueue:
    """All methods raise redis.RedisError when Redis is unavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def wait(self, seconds: int) -> None:
        """Moves the oldest pushed instruction into the list of those being processed; waits for one if necessary."""
        self._client.blmove(INSTRUCTIONS_KEY, INSTRUCTIONS_PROCESSING_KEY, seconds, src="RIGHT", dest="LEFT")

    def oldest(self) -> Entry | None:
        """The oldest instruction that is being processed by any daemon; None if there is none."""
        stored = self._client.eval(_OLDEST, 1, INSTRUCTIONS_PROCESSING_KEY, secrets.token_hex(16), str(MAX_BYTES + 1))
        if stored is None:
            return None
        found = _WITH_ID.fullmatch(cast(bytes, stored))
        assert found is not None  # the script gives each entry an id
        return Entry(found[0], found[1].decode(), found[2])

    def remove(self, entry: Entry) -> None:
        """Removes an instruction whose experiment is committed, unless another daemon has removed it."""
        self._client.lrem(INSTRUCTIONS_PROCESSING_KEY, -1, cast(str, entry.stored))
