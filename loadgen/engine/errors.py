"""The error of a request source, and excerpts of tracebacks for its message."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

_FRAMES = 3


class AppError(Exception):
    """A client app or a workload's request is invalid; ends the load. The message is for its author."""


def traceback_tail(error: BaseException) -> str:
    """Returns the innermost frames of a traceback and the exception, as lines of text."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return "\n".join([*_lines(frames), "".join(traceback.format_exception_only(error)).rstrip()])


def stack_tail(frame: FrameType | None) -> str:
    """Returns the innermost frames of a stack, as lines of text."""
    return "\n".join(_lines(traceback.extract_stack(frame)[-_FRAMES:]))


def _lines(frames: Sequence[traceback.FrameSummary]) -> list[str]:
    return [f"  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {frame.line}" for frame in frames]
