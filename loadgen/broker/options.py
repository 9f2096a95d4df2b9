"""How both Celery apps and all Redis clients talk to the broker: one set of options for all of them."""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue
from kombu.transport.redis import Channel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry

from loadgen.protocol.settings import RedisSettings

# With its zone, as the lines that Galileo itself logs have it (loadgen.protocol.logs).
LOG_TIME = "%Y-%m-%d %H:%M:%S%z"

# A half-open connection (NAT, Wi-Fi) is noticed only by these.
SOCKET_OPTIONS: dict[str, Any] = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 5,
}

# Without `driver_info`, redis-py (seen with 8.1) reads its version from its package's metadata for each connection,
# which takes longer than to connect.
_CLIENT_OPTIONS: dict[str, Any] = {**SOCKET_OPTIONS, "driver_info": DriverInfo()}

# A consumer that has just taken a message when the broker goes away would put it back while it closes the connection:
# without a connection that raises, and ends the worker's main process. We order, or send, again from our own records.
Channel.do_restore = False


def redis_options() -> dict[str, Any]:
    """Keyword arguments for every blocking `redis.Redis` client of ours, beside its URL."""
    return {**_CLIENT_OPTIONS, "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), 2)}


def async_redis_options() -> dict[str, Any]:
    """As `redis_options`, for `redis.asyncio.Redis`, which awaits its retries and so needs a class of its own."""
    return {**_CLIENT_OPTIONS, "retry": AsyncRetry(ExponentialBackoff(cap=1.0, base=0.05), 2)}


def queue(name: str) -> Queue:
    """A direct queue whose exchange and routing key carry its own name (a bare `Queue` is bound to `celery`)."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def celery_options(redis: RedisSettings) -> dict[str, Any]:
    """Celery configuration that both apps share.

    Early acks everywhere: a broker restart while an acks-late task runs kills the worker's main process
    (celery/celery#7185, seen with 5.7). Orders and batches that must not be lost are sent again from our own rows.
    """
    return {
        "broker_url": redis.url,
        "broker_transport_options": {"visibility_timeout": 300, **SOCKET_OPTIONS},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json", "msgpack"],
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_hijack_root_logger": False,
        "worker_log_datefmt": LOG_TIME,
        "worker_task_log_datefmt": LOG_TIME,
        "enable_utc": True,
        "timezone": "UTC",
    }
