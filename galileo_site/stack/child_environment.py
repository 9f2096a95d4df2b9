"""Environments: builds the environment variables of each child process, with only the secrets that it uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.config import HOST, WORKER_ZONES, StackConfig
from galileo_site.stack.state import StateDir
from loadgen.protocol.variables import PREFIX, SECRET_SETTINGS

_APPS = PROJECT_ROOT / "examples" / "apps"


class Environments:
    """Builds environments from `inherited` (the user's), whose `galileo_*` labels are passed to the workers."""

    def __init__(
        self, config: StackConfig, state: StateDir, redis_port: int, inherited: Mapping[str, str] = os.environ
    ) -> None:
        self._config = config
        self._state = state
        self._secrets = state.secrets()
        self._redis_port = redis_port
        self._plain = {name: value for name, value in inherited.items() if not name.startswith(PREFIX)}
        self._user = {name: value for name, value in inherited.items() if name.startswith(PREFIX)}

    def _shared(self) -> dict[str, str]:
        return {
            **self._plain,
            "PYTHONUNBUFFERED": "1",
            "galileo_venv": sys.prefix,
            "galileo_redis_host": HOST,
            "galileo_redis_port": str(self._redis_port),
            "galileo_redis_password": self._secrets.redis_password,
            "galileo_redis_username": "",  # the embedded server has the default user alone
            "galileo_logging_level": self._config.logging_level,
            "galileo_ingest_queues": "1",  # there is one ingest process
        }

    def controller(self) -> dict[str, str]:
        """Returns the environment of every process that runs Django."""
        database = {name: value for name, value in self._user.items() if name.startswith(f"{PREFIX}expdb_")}
        user = {name: value for name, value in self._user.items() if name not in database}
        return {
            "galileo_apps_dir": str(_APPS),
            **user,
            **self._shared(),
            "galileo_expdb_driver": "sqlite",
            "galileo_expdb_sqlite_path": str(self._state.database),
            "galileo_secret_key": self._secrets.secret_key,
            "galileo_apps_repo_dir": str(self._state.apps),
            "galileo_admin_user": self._config.admin_user,
            "galileo_admin_password": self._secrets.admin_password,
            "galileo_web_host": HOST,
            "galileo_web_port": str(self._config.web_port),
            "galileo_allowed_hosts": ",".join(filter(None, (f"{HOST},localhost", user.get("galileo_allowed_hosts")))),
        }

    def worker(self, name: str) -> dict[str, str]:
        labels = {
            variable: value
            for variable, value in self._user.items()
            if variable.removeprefix(PREFIX) not in SECRET_SETTINGS and not variable.startswith(f"{PREFIX}expdb_")
        }
        return {
            "galileo_apps_dir": str(_APPS),
            **labels,
            **self._shared(),
            "galileo_worker_name": name,
            "galileo_zone": WORKER_ZONES[name],
            "galileo_spool_dir": str(self._state.spool(name)),
        }

    def service(self) -> dict[str, str]:
        return {**self._plain, "PYTHONUNBUFFERED": "1"}


def manage(*arguments: str | Path) -> list[str]:
    """Returns the command line of a Django command."""
    return [sys.executable, str(PROJECT_ROOT / "manage.py"), *map(str, arguments)]


def run(command: str) -> list[str]:
    """Returns the command line of one of Galileo's processes: the script that users run."""
    return [str(PROJECT_ROOT / "bin" / "run"), command]
