"""Timers that wake the event loop at an absolute time of CLOCK_MONOTONIC, as precisely as the platform can."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from time import monotonic_ns
from typing import Protocol

# Until a time that is nearer than this, the loop polls: to sleep and to be woken would cost more CPU.
NEAR_NS = 30_000
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_TFD_TIMER_ABSTIME = 1


class Timer(Protocol):
    """Calls back once per `arm`, at its time or as soon afterwards as the loop can; at once for a past time.

    The callback must call `arm_again` or `disarm`.
    """

    def arm(self, at_ns: int) -> None: ...

    def arm_again(self, at_ns: int) -> None:
        """As `arm`, from the callback; the next call may come too early if the time is near."""

    def disarm(self) -> None: ...

    def close(self) -> None: ...


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class TimerFd:
    """A Linux timerfd in the loop's poll set: wakes within tens of microseconds.

    The timers of event loops have a resolution of milliseconds: asyncio rounds epoll's time-out, and uvloop has the
    timers of libuv (MagicStack/uvloop#359).

    Setting a timerfd clears its expirations, so it is never read.

    Raises:
        OSError: no descriptor is left, or the platform has no timerfd.
    """

    __slots__ = ("_fd", "_loop", "_pointer", "_set", "_spec")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "timerfd_create"):
            raise OSError("the platform has no timerfd")
        self._fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timerfd_create: {os.strerror(number)}")
        self._set = libc.timerfd_settime
        self._spec = _Itimerspec()
        self._pointer = ctypes.byref(self._spec)
        self._loop = loop
        loop.add_reader(self._fd, callback)

    def arm(self, at_ns: int) -> None:
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(max(at_ns, 1), 1_000_000_000)
        self._set(self._fd, _TFD_TIMER_ABSTIME, self._pointer, None)

    def arm_again(self, at_ns: int) -> None:
        # An expired timerfd that is neither read nor set stays readable: the loop polls the rest and calls back again.
        if at_ns - monotonic_ns() >= NEAR_NS:
            self.arm(at_ns)

    def disarm(self) -> None:
        self._spec.value.seconds = self._spec.value.nanoseconds = 0
        self._set(self._fd, _TFD_TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class LoopTimer:
    """The loop's own timer, where there is no timerfd: about a millisecond late."""

    __slots__ = ("_callback", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.Handle | None = None

    def arm(self, at_ns: int) -> None:
        self.disarm()
        delay_ns = at_ns - monotonic_ns()
        if delay_ns <= 0:
            self._handle = self._loop.call_soon(self._callback)
        else:
            self._handle = self._loop.call_later(delay_ns / 1e9, self._callback)

    def arm_again(self, at_ns: int) -> None:
        self.arm(at_ns)

    def disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        self.disarm()


def build_timer(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Timer:
    """Returns a TimerFd, or a LoopTimer if the platform or the limit of descriptors does not allow one."""
    try:
        return TimerFd(loop, callback)
    except OSError:
        return LoopTimer(loop, callback)
