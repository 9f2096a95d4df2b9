"""Fixtures of the engine's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from typing import Any, TypeVar

import pytest
import uvloop

from tests.loadgen.engine.harness import close_all
from tests.support.http_target import HttpTarget

Value = TypeVar("Value")
_groups = count()
Run = Callable[[Coroutine[Any, Any, Value]], Value]


@pytest.fixture(scope="session")
def target() -> Iterator[HttpTarget]:
    """A real responder; `/mode/<mode>/` chooses what it does."""
    with HttpTarget() as server:
        yield server


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run[Any]:
    """Runs a coroutine on each kind of event loop that the engine has to work on."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    async def closing(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except BaseException:
            await close_all()
            raise

    def run_on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(closing(coroutine))

    return run_on_loop


@pytest.fixture
def group() -> str:
    """A group id that no other test uses, as the target's log is shared."""
    return f"g{next(_groups)}"
