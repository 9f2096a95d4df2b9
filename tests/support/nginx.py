"""nginx: as a target that is not the limit, with a log of the request ids that it saw, and in front of a web server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from galileo_site.stack.ports import pick_free
from galileo_site.stack.processes import tied
from tests.support.waiting import wait_for

_ADDRESS = "127.0.0.1"

_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
  {log}
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    {server}
    location / {{ default_type text/plain; return 200 "ok\\n"; }}
  }}
}}
"""

_LOG = """log_format truth '$msec $http_x_request_id $request_method $uri';
  access_log {folder}/access.log truth buffer=64k flush=100ms;"""


def configure(folder: Path, descriptors: int, connections: int, log: str, server: list[str]) -> list[str]:
    """Writes the configuration of an nginx with one worker process and three-byte answers; returns its arguments.

    Args:
        log: directives about the log.
        server: directives of its one server: where it listens, and what else it serves.
    """
    file = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    lines = "\n    ".join(server)
    file.write_text(
        _CONFIG.format(
            folder=folder, descriptors=descriptors, connections=connections, user=user, log=log, server=lines
        )
    )
    return ["-p", str(folder), "-c", str(file)]


class Nginx:
    """A context manager; `log_file` is complete once it has ended, or 100 ms after the last request."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log_file = folder / "access.log"
        self.port = pick_free(set())

    @property
    def host(self) -> str:
        return f"{_ADDRESS}:{self.port}"

    def __enter__(self) -> Nginx:
        listen = f"listen {_ADDRESS}:{self.port} backlog=4096;"
        arguments = configure(self._folder, 20_000, 10_000, _LOG.format(folder=self._folder), [listen])
        self._process = subprocess.Popen(tied(["/usr/sbin/nginx", *arguments], signal.SIGTERM))
        wait_for(self._answers, "nginx to answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            socket.create_connection((_ADDRESS, self.port), timeout=1).close()
        except ConnectionRefusedError:
            return False
        return True


_FRONT = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {servers}
}}
"""


class FrontNginx:
    """nginx in front of a web server: a context manager.

    Args:
        locations: by name, a `location` block, which a port of its own serves; PORT in it stands for that of the web
            server.
    """

    def __init__(self, folder: Path, web_port: int, locations: Mapping[str, str]) -> None:
        self._folder = folder
        taken: set[int] = set()
        self.ports: dict[str, int] = {}
        servers = []
        for name, location in locations.items():
            self.ports[name] = pick_free(taken)
            taken.add(self.ports[name])
            block = location.replace("PORT", str(web_port))
            servers.append(f"server {{ listen {_ADDRESS}:{self.ports[name]}; {block} }}")
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "front.conf").write_text(_FRONT.format(folder=folder, user=user, servers="\n  ".join(servers)))

    def __enter__(self) -> FrontNginx:
        arguments = ["-p", str(self._folder), "-c", str(self._folder / "front.conf")]
        self._process = subprocess.Popen(tied(["/usr/sbin/nginx", *arguments], signal.SIGTERM))
        wait_for(self._answers, "nginx to answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            for port in self.ports.values():
                socket.create_connection((_ADDRESS, port), timeout=1).close()
        except ConnectionRefusedError:
            return False
        return True
