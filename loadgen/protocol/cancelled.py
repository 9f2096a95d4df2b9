"""raise_if_cancelled: ends a task whose cancel a library has swallowed."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raises CancelledError when the current task was cancelled; for the beginning of each turn of an endless loop.

    redis-py waits with time-outs of its own, and one that expires at that moment swallows the cancel
    (redis/redis-py#2551): the loop would go on, and its event loop would never close.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
