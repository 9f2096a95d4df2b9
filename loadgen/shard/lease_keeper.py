"""LeaseKeeper: renews a shard's lease, and stops the shard that has lost it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from loadgen.engine.end import End
from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import LEASE_RENEW_S, LEASE_TTL_MS
from loadgen.shard.clock import Clock

logger = logging.getLogger(__name__)

RENEW_AGAIN_S = 0.25

SUPERSEDED = End(ShardState.LOST, "superseded")
LEASE_EXPIRED = End(ShardState.LOST, f"its lease was not renewed for {LEASE_TTL_MS / 1000:g} s")


class LeaseKeeper:
    """Keeps the lease of one attempt, from the time at which it is asked for.

    Another attempt may start as soon as the lease has expired in Redis, which is not before `expires_ns`: that counts
    from before the renewal was sent.

    Args:
        renew: `Fence.renew`.
        stop: ends the shard: SUPERSEDED when the lease is another attempt's, LEASE_EXPIRED when it may soon be.
        send_until: told the time at which a replaceable shard must have stopped to send.

    Attributes:
        is_replaceable: whether another attempt is started when the lease has expired.
        is_sending: whether the load has begun.
    """

    def __init__(
        self,
        renew: Callable[[], Awaitable[bool | None]],
        stop: Callable[[End], None],
        send_until: Callable[[int, End], None],
        clock: Clock,
    ) -> None:
        self._renew = renew
        self._stop = stop
        self._send_until = send_until
        self._clock = clock
        self._renewed_ns = 0  # when the last renewal that succeeded was begun
        self._is_away = False  # the last renewal failed
        self.is_replaceable = False
        self.is_sending = False

    def begin(self) -> None:
        """To be called just before the lease is asked for."""
        self._renewed_ns = self._clock.monotonic_ns()

    @property
    def expires_ns(self) -> int:
        return self._renewed_ns + LEASE_TTL_MS * 1_000_000

    @property
    def has_expired(self) -> bool:
        return self._clock.monotonic_ns() >= self.expires_ns

    async def keep(self) -> None:
        """Renews the lease until cancelled: sooner again after a failure, so that a short outage costs no lease."""
        pause_s = LEASE_RENEW_S
        while True:
            raise_if_cancelled()
            await self._clock.sleep(pause_s)
            pause_s = LEASE_RENEW_S if await self.renew() else RENEW_AGAIN_S

    async def renew(self) -> bool:
        """Renews the lease, or stops the shard that has lost it; returns whether Redis has answered."""
        begun_ns = self._clock.monotonic_ns()
        is_ours: bool | None = None  # unknown
        try:
            is_ours = await self._renew()
        except RedisError as error:
            if not self._is_away:
                logger.warning("the lease cannot be renewed: %s", error)
        self._is_away = is_ours is None
        if is_ours is False:
            self._stop(SUPERSEDED)
        # Were it renewed after it had expired, another attempt might have been ordered in between.
        elif self.is_sending and self.is_replaceable and self.has_expired:
            self._stop(LEASE_EXPIRED)
        elif is_ours:
            self._renewed_ns = begun_ns
            self.limit_sending()
        return is_ours is not None

    def limit_sending(self) -> None:
        """Tells a replaceable shard's engine when it must have stopped to send."""
        if self.is_replaceable:
            self._send_until(self.expires_ns, LEASE_EXPIRED)
