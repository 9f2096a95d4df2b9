"""The broker's wall clock, stepped while the broker runs."""

from __future__ import annotations

import pytest

from tests.support.redis_server import RedisServer
from tests.support.stepped_clock import SteppedClock
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


def test_step_moves_the_brokers_time_and_expires_keys(tmp_path):
    clock = SteppedClock(tmp_path / "clock")
    with RedisServer(tmp_path / "redis", clock=clock) as server, server.client() as client:
        client.set("short", 1, ex=60)
        client.set("long", 1, ex=600)
        before_s, _ = client.time()
        clock.step(90)
        wait_for(lambda: 90 <= client.time()[0] - before_s <= 100, "the step")
        assert (client.exists("short"), client.exists("long")) == (0, 1)
        clock.step(-180)
        wait_for(lambda: -90 <= client.time()[0] - before_s <= -70, "the step back")
        assert 600 < client.ttl("long") <= 690
