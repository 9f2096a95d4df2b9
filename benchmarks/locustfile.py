"""The load of Locust: GET / as fast as it can, over the hosts of BENCH_HOSTS with the weights 1, 2, 3, …"""

import os
from itertools import cycle

from locust import FastHttpUser, constant, task

HOSTS = os.environ["BENCH_HOSTS"].split()
URLS = [f"http://{host}/" for position, host in enumerate(HOSTS) for _ in range(position + 1)]


class User(FastHttpUser):
    wait_time = constant(0)

    def on_start(self):
        self.urls = cycle(URLS)

    @task
    def get(self):
        self.client.get(next(self.urls), name="/")
