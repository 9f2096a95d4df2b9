"""The times of log lines: in UTC and with their zone, wherever the process runs."""

from __future__ import annotations

import logging
import logging.config
import os
import subprocess
import sys
from typing import Any

import pytest
from celery.app.log import TaskFormatter

from galileo_site.environment import PROJECT_ROOT
from loadgen.broker.options import celery_options
from loadgen.protocol.logs import UtcFormatter
from loadgen.protocol.settings import RedisSettings

BEGAN_S = 1_700_000_000.25


def record() -> logging.LogRecord:
    made = logging.LogRecord("galileo", logging.INFO, "file", 1, "started", None, None)
    made.created, made.msecs = BEGAN_S, 250.0
    return made


def test_time_of_a_line_is_in_utc_with_its_zone() -> None:
    assert UtcFormatter("%(asctime)s %(message)s").format(record()) == "2023-11-14 22:13:20.250Z started"


def test_controller_logs_times_with_a_zone(settings: Any) -> None:
    configured = logging.config.DictConfigurator(settings.LOGGING)
    formatter = configured.configure_formatter(settings.LOGGING["formatters"]["line"])
    assert formatter.format(record()).startswith("2023-11-14 22:13:20.250Z INFO")


def test_celery_logs_times_with_a_zone() -> None:
    options = celery_options(RedisSettings("127.0.0.1", 1, ""))
    for name in ("worker_log_datefmt", "worker_task_log_datefmt"):
        line = TaskFormatter("%(asctime)s %(message)s", datefmt=options[name], use_color=False).format(record())
        assert line.startswith("2023-11-14 22:13:20+0000")


@pytest.mark.slow
def test_worker_in_another_zone_logs_in_utc() -> None:
    code = "from loadgen.protocol.logs import set_up_logging; import logging; set_up_logging('INFO', 'agent'); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}logging.info('started')"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    time, _, rest = done.stderr.partition(": ")
    assert time.endswith("Z") and rest == "INFO/agent] started\n", done.stderr
