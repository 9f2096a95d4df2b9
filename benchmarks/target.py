"""Target: nginx with one worker process, tiny responses, no log, and a count of the requests that it served."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
from pathlib import Path

from benchmarks.needed import need
from galileo_site.stack.ports import pick_free
from galileo_site.stack.processes import tied
from tests.support.nginx import configure
from tests.support.waiting import wait_for

_ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Target:
    """A context manager; nginx runs on this process's core. `folder` must be empty, and is removed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = pick_free()
        self.tls_port = pick_free({self.port})

    @property
    def host(self) -> str:
        return f"{_ADDRESSES[0]}:{self.port}"

    @property
    def tls_host(self) -> str:
        return f"{_ADDRESSES[0]}:{self.tls_port}"

    @property
    def hosts(self) -> list[str]:
        """Three hosts of the same nginx."""
        return [f"{address}:{self.port}" for address in _ADDRESSES]

    def served(self) -> int:
        """Returns the number of requests that nginx has served, without those of this method."""
        connection = http.client.HTTPConnection(_ADDRESSES[0], self.port, timeout=10)
        try:
            connection.request("GET", "/served")
            numbers = connection.getresponse().read().decode().splitlines()[2].split()
        finally:
            connection.close()
        self._asked += 1
        return int(numbers[2]) - self._asked

    def __enter__(self) -> Target:
        program = need("nginx")
        self._certify()
        descriptors = min(65536, os.sysconf("SC_OPEN_MAX"))
        server = [f"listen {address}:{self.port} backlog=4096;" for address in _ADDRESSES]
        server += [
            f"listen {_ADDRESSES[0]}:{self.tls_port} ssl backlog=4096;",
            f"ssl_certificate {self._folder}/certificate.pem;",
            f"ssl_certificate_key {self._folder}/key.pem;",
            "location = /served { stub_status; }",
            "location = /chunked { ssi on; default_type text/html; return 200 ok; }",  # SSI: the length is unknown
        ]
        arguments = configure(self._folder, descriptors, descriptors * 3 // 4, "access_log off;", server)
        self._asked = 0
        command = tied([program, *arguments], signal.SIGTERM)
        # A process group of its own: a Ctrl-C at the terminal must not end the target before its generators.
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        try:
            wait_for(self._answers, "nginx to answer", within_s=10)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"nginx has ended: {(self._folder / 'error.log').read_text()}")
        try:
            self.served()
        except ConnectionRefusedError:
            return False
        return True

    def _certify(self) -> None:
        """Creates a key and a self-signed certificate."""
        command = [need("openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-addext", f"subjectAltName=IP:{_ADDRESSES[0]}"]
        command += ["-keyout", str(self._folder / "key.pem"), "-out", str(self._folder / "certificate.pem")]
        subprocess.run(command, check=True, capture_output=True)
