"""What can be wrong with a request source."""

from __future__ import annotations

import traceback
from pathlib import Path

_FRAMES = 3


class AppError(Exception):
    """A client app or a workload's request is wrong; the message is for its author, and ends the load."""


def traceback_tail(error: BaseException) -> str:
    """The innermost frames and the exception of a traceback, as lines of text."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    lines = [f"  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {frame.line}" for frame in frames]
    return "\n".join([*lines, "".join(traceback.format_exception_only(error)).rstrip()])
