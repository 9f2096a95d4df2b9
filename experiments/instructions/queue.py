"""The lists in Redis: what users push, and what a daemon has taken and not done.

A daemon that is killed at any moment loses no instruction and carries none out twice. What it takes moves, in one step,
into the list of what is being processed, and stays there until the experiment is committed. There it gets a ticket, in
one step, too; the experiment is stored under that ticket, which is unique. Whoever finds the instruction in the list
later, after a death or beside another daemon, finds its ticket and, if it was made, its experiment.
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

_TICKETED = re.compile(rb"ticket:([0-9a-f]{32}):(.*)", re.DOTALL)
# The oldest entry, with a ticket; an entry that is larger than any instruction may be is cut off.
_OLDEST = """
local entry = redis.call('LINDEX', KEYS[1], -1)
if entry and not string.find(entry, '^ticket:' .. string.rep('[0-9a-f]', 32) .. ':') then
    entry = 'ticket:' .. ARGV[1] .. ':' .. string.sub(entry, 1, tonumber(ARGV[2]))
    redis.call('LSET', KEYS[1], -1, entry)
end
return entry
"""
# One try, which fails after a few seconds: the daemon must not be held up when it is told to stop.
_BRISK: dict[str, Any] = {"socket_timeout": 3, "socket_connect_timeout": 2, "retry": Retry(NoBackoff(), 0)}


@dataclass(frozen=True)
class Entry:
    """An instruction that is being processed: as it lies in the list, its ticket, and what was pushed."""

    stored: bytes
    ticket: str
    pushed: bytes


def brisk_client() -> redis.Redis:
    """A client for the daemon's loop; threads may share it."""
    return redis.Redis.from_url(settings.GALILEO_REDIS_URL, **{**settings.GALILEO_REDIS_OPTIONS, **_BRISK})


class InstructionQueue:
    """Every method raises redis.RedisError when Redis is away."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def wait(self, seconds: int) -> None:
        """Takes the oldest pushed instruction, or the first that comes within the time."""
        self._client.blmove(INSTRUCTIONS_KEY, INSTRUCTIONS_PROCESSING_KEY, seconds, src="RIGHT", dest="LEFT")

    def oldest(self) -> Entry | None:
        """The oldest instruction that is being processed, by whomever."""
        stored = self._client.eval(_OLDEST, 1, INSTRUCTIONS_PROCESSING_KEY, secrets.token_hex(16), str(MAX_BYTES + 1))
        if stored is None:
            return None
        found = _TICKETED.fullmatch(cast(bytes, stored))
        assert found is not None  # the script has seen to it
        return Entry(found[0], found[1].decode(), found[2])

    def remove(self, entry: Entry) -> None:
        """Once its experiment is committed. Another daemon may have done so."""
        self._client.lrem(INSTRUCTIONS_PROCESSING_KEY, -1, cast(str, entry.stored))
