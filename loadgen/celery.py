"""The worker's Celery app: `python -m loadgen.worker`, or `celery -A loadgen worker` without the checks at start.

Shutdown is Celery's warm one: after SIGTERM, the worker takes no more shards, and the agent ends the running ones,
which it kills if they outlive their grace. Celery's soft shutdown is not used, because it sleeps for its whole time-out
in the signal handler, even when all shards have ended (celery/celery#9505; still so in 5.7).
"""

from __future__ import annotations

import gc
from typing import Any

from celery import Celery, signals

from loadgen.agent.process import AgentProcess
from loadgen.broker.options import celery_options, queue
from loadgen.device.cores import usable_cores
from loadgen.protocol.keys import label_queue
from loadgen.protocol.settings import WorkerSettings, read_worker


def create_app(settings: WorkerSettings) -> Celery:
    """Returns an app that consumes the queue of each label; a slot is a prefork process, new for each shard."""
    app = Celery("loadgen", include=["loadgen.tasks"], fixups=[])  # no Django, even where its variable is set
    app.conf.update(celery_options(settings.redis))
    app.conf.update(
        task_queues=[queue(name) for name in settings.queues],
        task_default_queue=label_queue("worker_name", settings.name),
        worker_pool="prefork",
        worker_concurrency=settings.slots,
        worker_max_tasks_per_child=1,
        worker_proc_alive_timeout=30.0,  # a Raspberry Pi forks its slots slowly
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a shard outlives its broker
    )
    return app


def keep_memory_shared(**_: Any) -> None:
    """Excludes existing objects from collections, whose writes would give each forked slot a copy of all of them."""
    gc.collect()
    gc.freeze()


app = create_app(read_worker(cores=usable_cores()))
signals.celeryd_after_setup.connect(keep_memory_shared, weak=False)
agent_process = AgentProcess()
agent_process.connect()
