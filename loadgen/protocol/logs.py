"""Logging: the format of times, and the set-up of the worker's processes, which log to stderr."""

from __future__ import annotations

import logging
import time


class UtcFormatter(logging.Formatter):
    """Shows times with their zone, such as 2026-11-22 10:31:33.235Z: the devices of an experiment may be in several."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%d %H:%M:%S"
    default_msec_format = "%s.%03dZ"


def set_up_logging(level: str, process: str) -> None:
    """`process` names the process in each line."""
    handler = logging.StreamHandler()
    handler.setFormatter(UtcFormatter(f"[%(asctime)s: %(levelname)s/{process}] %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
