"""Logging of the worker's processes: one format, to stderr."""

from __future__ import annotations

import logging


def set_up_logging(level: str, process: str) -> None:
    """`process` names the process in each line."""
    logging.basicConfig(level=level, format=f"[%(asctime)s: %(levelname)s/{process}] %(message)s")
