"""nginx as a target that is not the limit, with a log of the request ids that it saw."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from galileo_site.stack.ports import pick_free
from galileo_site.stack.processes import tied
from tests.support.waiting import wait_for

_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 10000; }}
http {{
  log_format truth '$msec $http_x_request_id $request_method $uri';
  access_log {folder}/access.log truth buffer=64k flush=100ms;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type text/plain; return 200 "ok\\n"; }}
  }}
}}
"""


class Nginx:
    """A context manager; `log_file` is complete once it has ended, or 100 ms after the last request."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log_file = folder / "access.log"
        self.port = pick_free(set())

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Nginx:
        config = self._folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(folder=self._folder, port=self.port, user=user))
        command = ["/usr/sbin/nginx", "-p", str(self._folder), "-c", str(config)]
        self._process = subprocess.Popen(tied(command, signal.SIGTERM))
        wait_for(self._answers, "nginx to answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except ConnectionRefusedError:
            return False
        return True
