"""ForkServer: one process that has imported Django and the project, and forks a process for each program.

A start of a program of the controller costs about two seconds of CPU, a fork a tenth of one. Each fork is a process of
its own, with its own streams, environment, process group and exit status, and gets signals as any process. It runs the
program as `python` would, and ends as an interpreter ends. Two things differ from a real start: the settings are those
of the environment that the server got, and most modules are imported already. Tests of the start itself, and of Ctrl-C,
start real processes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.processes import tied
from loadgen.device.process import follow_parent

_LONGEST_REQUEST = 1 << 20
_NUMBER = struct.Struct("!i")


class ForkedProcess:
    """A fork, with the methods of subprocess.Popen that tests use."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = self._receive(60.0)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._receive(timeout)
            self._connection.close()
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _receive(self, timeout_s: float | None) -> int:
        self._connection.settimeout(timeout_s)
        try:
            data = self._connection.recv(_NUMBER.size)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired("a fork", timeout_s or 0.0) from None
        return int(_NUMBER.unpack(data)[0]) if data else -signal.SIGKILL  # the server was killed, and its forks with it


class ForkServer:
    """Starts the server, which `stop` ends; `directory` keeps its log."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._log_path = directory / "fork_server.log"
        # The address of a Unix socket has at most 107 bytes, which pytest's folders may exceed.
        self._folder = tempfile.TemporaryDirectory(prefix="galileo-")
        self._address = str(Path(self._folder.name) / "socket")
        ready, write = os.pipe()
        command = tied([sys.executable, "-m", __name__, self._address, str(write)], signal.SIGKILL)
        with self._log_path.open("ab") as log, os.fdopen(ready) as reader:
            self._process = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[write],
            )  # fmt: skip
            os.close(write)
            if not reader.read():
                self.stop()
                raise RuntimeError(f"the fork server did not start:\n{self._log_path.read_text()}")

    def stop(self) -> None:
        """Ends the server and all its forks."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def start(
        self, arguments: Sequence[str], stdin: IO[Any], stdout: IO[Any], stderr: IO[Any], **variables: str
    ) -> ForkedProcess:
        """Starts `python ARGUMENTS`; `variables` are added to the process's environment, but not to its settings."""
        request = {"arguments": list(arguments), "environment": {**self._environment, **variables}}
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
        socket.send_fds(connection, [json.dumps(request).encode()], streams)
        connection.shutdown(socket.SHUT_WR)
        return ForkedProcess(connection)

    def start_run(self, arguments: Sequence[str], log: Path, **variables: str) -> ForkedProcess:
        """Starts what `bin/run ARGUMENTS` starts; its output is appended to `log`."""
        folder = Path(self._folder.name) / "bin"
        if not folder.exists():
            folder.mkdir()
            (folder / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')  # shows what bin/run starts Python with
            (folder / "python").chmod(0o755)
        environment = {**self._environment, **variables, "galileo_venv": self._folder.name}
        shown = subprocess.run(
            [PROJECT_ROOT / "bin" / "run", *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        with Path(os.devnull).open() as nothing, log.open("ab") as output:
            return self.start(shown.stdout.splitlines(), nothing, output, output, **variables)

    def run(
        self, arguments: Sequence[str], stdin: IO[str] | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python ARGUMENTS` to its end."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, Path(os.devnull).open() as nothing:
            process = self.start(arguments, stdin or nothing, output, errors, **variables)
            try:
                status = process.wait(300.0)
            finally:
                process.kill()
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(arguments, status, output.read().decode(), errors.read().decode())


def _serve(address: str, ready: int) -> list[str]:
    """Forks a child for each connection; returns in each child, with what it is to run."""
    _import_project()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps the children
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        os.write(ready, b"ready")
        os.close(ready)
        while True:
            connection, _ = server.accept()
            if _fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return _become_program(connection)


def _become_program(connection: socket.socket) -> list[str]:
    """Forks once more: the parent waits and reports the exit status; returns in the child alone."""
    with connection:
        request, streams = _receive(connection)
        child = _fork()
        if child:
            os.setpgid(child, child)
            connection.sendall(_NUMBER.pack(child))
            _, status = os.waitpid(child, 0)
            connection.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))
            os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    return list(request["arguments"])


def _fork() -> int:
    """Forks a child that is killed when its parent ends; returns as os.fork does."""
    parent = os.getpid()
    child = os.fork()
    if child == 0 and not follow_parent(signal.SIGKILL, parent):
        os._exit(1)
    return child


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, streams, _, _ = socket.recv_fds(connection, _LONGEST_REQUEST, 3)
    while more := connection.recv(_LONGEST_REQUEST):
        data += more
    return json.loads(data), streams


def _import_project() -> None:
    """Imports what the programs import, without a connection to the database or the broker."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")
    django.setup()
    from django.core.management import call_command

    from experiments.management import commands

    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}")
    call_command("check", stdout=io.StringIO())  # as each command does: imports the URLs, and fills Django's caches
    importlib.import_module("galileo_site.celery").app.loader.import_default_modules()
    for name in ("celery.bin.celery", "celery.apps.worker", "celery.apps.beat", "django_celery_beat.schedulers"):
        importlib.import_module(name)
    gc.freeze()  # otherwise each fork's collector visits, and the kernel copies, all that was imported


def _run_python(arguments: list[str]) -> None:
    """What `python ARGUMENTS` does: `-m MODULE ...`, or `PATH ...`."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _run_python(_serve(sys.argv[1], int(sys.argv[2])))
