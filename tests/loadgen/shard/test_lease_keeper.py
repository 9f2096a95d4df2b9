"""LeaseKeeper with a fake clock: when it renews, when it stops the shard, and how long the engine may send."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from loadgen.engine.end import End
from loadgen.protocol.keys import LEASE_RENEW_S, LEASE_TTL_MS
from loadgen.shard.lease_keeper import LEASE_EXPIRED, RENEW_AGAIN_S, SUPERSEDED, LeaseKeeper
from tests.support.fake_clock import FakeClock

TTL_S = LEASE_TTL_MS / 1000
Answer = bool | None


class Shard:
    """A shard's lease, renewed by a Redis that gives the answer that `answer` returns; None for Redis away."""

    def __init__(self, answer: Callable[[float], Answer | Exception]) -> None:
        self.clock = FakeClock()
        self.begun_ns = self.clock.now_ns
        self.renewals_s: list[float] = []
        self.ends: list[End] = []
        self.send_until_s: list[float] = []
        self._answer = answer
        self.lease = LeaseKeeper(self._renew, self.ends.append, self._send_until, self.clock)
        self.lease.begin()

    async def _renew(self) -> Answer:
        self.renewals_s.append(self.seconds(self.clock.now_ns))
        answer = self._answer(self.renewals_s[-1])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send_until(self, monotonic_ns: int, end: End) -> None:
        assert end is LEASE_EXPIRED
        self.send_until_s.append(self.seconds(monotonic_ns))

    def seconds(self, monotonic_ns: int) -> float:
        return (monotonic_ns - self.begun_ns) / 1e9


AWAY = redis.ConnectionError("away")


def test_lease_is_renewed_at_its_period() -> None:
    shard = Shard(lambda _: True)
    shard.clock.run(shard.lease.keep(), 10 * LEASE_RENEW_S)
    assert shard.renewals_s == [LEASE_RENEW_S * number for number in range(1, 11)]
    assert (shard.ends, shard.send_until_s) == ([], [])


def test_failed_renewal_is_tried_again_soon() -> None:
    shard = Shard(lambda now_s: AWAY if now_s < LEASE_RENEW_S + 1 else True)
    shard.clock.run(shard.lease.keep(), LEASE_RENEW_S + 1)
    assert shard.renewals_s == [LEASE_RENEW_S + RENEW_AGAIN_S * number for number in range(5)]
    assert not shard.lease.has_expired


def test_lower_attempt_with_the_lease_is_asked_again_soon() -> None:
    shard = Shard(lambda _: None)
    shard.clock.run(shard.lease.keep(), LEASE_RENEW_S + RENEW_AGAIN_S)
    assert shard.renewals_s == [LEASE_RENEW_S, LEASE_RENEW_S + RENEW_AGAIN_S]
    assert shard.ends == []


@pytest.mark.parametrize("is_sending", [False, True])
def test_lease_of_another_attempt_supersedes_the_shard(is_sending: bool) -> None:
    shard = Shard(lambda _: False)
    shard.lease.is_sending = is_sending
    shard.clock.run(shard.lease.keep(), LEASE_RENEW_S)
    assert shard.ends == [SUPERSEDED]


def test_replaceable_shard_may_send_until_its_lease_expires() -> None:
    shard = Shard(lambda now_s: True if now_s < 5 else AWAY)
    shard.lease.is_replaceable = shard.lease.is_sending = True
    shard.lease.limit_sending()
    shard.clock.run(shard.lease.keep(), 5)
    last_s = shard.renewals_s[-2] if shard.renewals_s[-1] >= 5 else shard.renewals_s[-1]
    assert shard.send_until_s[0] == TTL_S
    assert shard.send_until_s[-1] == last_s + TTL_S


def test_replaceable_shard_stops_when_its_lease_has_expired() -> None:
    shard = Shard(lambda _: AWAY)
    shard.lease.is_replaceable = shard.lease.is_sending = True
    shard.clock.run(shard.lease.keep(), TTL_S - RENEW_AGAIN_S)
    assert shard.ends == []
    shard.clock.run(shard.lease.keep(), LEASE_RENEW_S)
    assert set(shard.ends) == {LEASE_EXPIRED}


@pytest.mark.parametrize(("is_replaceable", "is_sending"), [(False, True), (True, False)])
def test_expired_lease_does_not_stop_other_shards(is_replaceable: bool, is_sending: bool) -> None:
    shard = Shard(lambda _: AWAY)
    shard.lease.is_replaceable, shard.lease.is_sending = is_replaceable, is_sending
    shard.clock.run(shard.lease.keep(), 3 * TTL_S)
    assert shard.ends == []
    assert shard.lease.has_expired


def test_renewal_after_the_expiry_does_not_save_a_sending_shard() -> None:
    shard = Shard(lambda now_s: AWAY if now_s <= TTL_S else True)
    shard.lease.is_replaceable = shard.lease.is_sending = True
    shard.clock.run(shard.lease.keep(), TTL_S + 1)
    assert set(shard.ends) == {LEASE_EXPIRED}


def test_renewal_counts_from_before_it_was_sent() -> None:
    shard = Shard(lambda _: True)

    async def slow() -> bool:
        shard.clock.now_ns += 3_000_000_000
        return True

    shard.lease = LeaseKeeper(slow, shard.ends.append, lambda *_: None, shard.clock)
    shard.lease.begin()
    begun_ns = shard.clock.now_ns
    shard.clock.run(shard.lease.keep(), LEASE_RENEW_S)
    assert shard.lease.expires_ns == begun_ns + round((LEASE_RENEW_S + TTL_S) * 1e9)
