"""The controller's Celery app: `celery -A galileo_site worker -Q galileo.control | galileo.ingest.N`, and beat."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")

from galileo_site.environment import exit_if_wrong
from loadgen.broker.options import celery_options, queue
from loadgen.protocol import keys

app = Celery("galileo")
with exit_if_wrong():
    app.conf.update(celery_options(settings.SITE.redis))
app.conf.update(
    task_queues=[queue(keys.CONTROL_QUEUE)]
    + [
        queue(keys.ingest_queue(number, settings.GALILEO_INGEST_QUEUES))
        for number in range(settings.GALILEO_INGEST_QUEUES)
    ],
    task_default_queue=keys.CONTROL_QUEUE,
    task_default_exchange=keys.CONTROL_QUEUE,
    task_default_routing_key=keys.CONTROL_QUEUE,
    beat_scheduler="galileo_site.scheduler:Scheduler",
    # Reconcile messages accumulate while control is down; they expire, because one pass replaces all earlier ones.
    beat_schedule={
        "reconcile": {
            "task": keys.TASK_RECONCILE,
            "schedule": 1.0,
            "options": {"queue": keys.CONTROL_QUEUE, "expires": 2.0},
        }
    },
    beat_max_loop_interval=1,
)
app.autodiscover_tasks(["experiments"])
