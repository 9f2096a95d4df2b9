"""The target: nginx with one worker process, tiny answers, no log, and its own count of the requests that it served."""

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
from tests.support.waiting import wait_for

_ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    {listen}
    ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/key.pem;
    location = /served {{ stub_status; }}
    location / {{ default_type text/plain; return 200 "ok\\n"; }}
  }}
}}
"""


class Target:
    """A context manager; nginx runs on the core that this process is on. `folder` is its own, and empty."""

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
        """Three hosts, which are one nginx."""
        return [f"{address}:{self.port}" for address in _ADDRESSES]

    def served(self) -> int:
        """How many requests nginx has served until now, without the calls of this method."""
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
        listen = [f"listen {address}:{self.port} backlog=4096;" for address in _ADDRESSES]
        listen += [f"listen {_ADDRESSES[0]}:{self.tls_port} ssl backlog=4096;"]
        config = self._folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                folder=self._folder,
                listen="\n    ".join(listen),
                user="user root;" if os.geteuid() == 0 else "",
                descriptors=descriptors,
                connections=descriptors * 3 // 4,
            )
        )
        self._asked = 0
        command = tied([program, "-p", str(self._folder), "-c", str(config)], signal.SIGTERM)
        # A session of its own: a Ctrl-C at the terminal must not end the target before its generators.
        self._process = subprocess.Popen(command, start_new_session=True)
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
        """A key and a certificate signed by itself."""
        command = [need("openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-addext", f"subjectAltName=IP:{_ADDRESSES[0]}"]
        command += ["-keyout", str(self._folder / "key.pem"), "-out", str(self._folder / "certificate.pem")]
        subprocess.run(command, check=True, capture_output=True)
