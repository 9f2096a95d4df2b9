"""Where PostgreSQL keeps traces: in a partition for each experiment, made and dropped with it.

A report then reads its own experiment's rows alone, and a deletion leaves no dead rows behind. There is no default
partition: a trace of an experiment that has none is refused. Other databases keep all traces in one table.
"""

from __future__ import annotations

from django.db import OperationalError, connection, transaction
from django.db.backends.postgresql.psycopg_any import errors, sql

from experiments.models import Experiment, Trace

# Dropping a partition locks the whole table, and later transactions wait, too: longer than a batch takes to store,
# much shorter than a report may read.
DROP_LOCK_TIMEOUT_MS = 500
# A server has some thousand locks by default, and a partition takes about twenty when it goes.
MAX_DROPPED = 20

_PREFIX = f"{Trace._meta.db_table}_"
_UNOWNED = f"""
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = %(table)s::regclass
    AND NOT EXISTS (SELECT FROM {Experiment._meta.db_table} AS experiment WHERE %(prefix)s || experiment.id = relname)
    ORDER BY relname <> %(first)s LIMIT {MAX_DROPPED}
"""
_SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"  # until the end of the transaction


def make_way(experiment_id: str) -> bool:
    """Drops what a deletion had to leave of an earlier experiment's partition of this id; False while it is in use."""
    if connection.vendor != "postgresql" or drop_unowned(experiment_id):
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_class WHERE relname = %s)", [_PREFIX + experiment_id])
        (exists,) = cursor.fetchone()
    return not exists


def add(experiment_id: str) -> None:
    """Makes the partition of a new experiment, within the caller's transaction.

    It does not wait for readers and writers of traces, nor do they wait for it: CREATE TABLE … PARTITION OF would
    lock the whole table, ATTACH does not.
    """
    if connection.vendor != "postgresql":
        return
    names = {
        "table": sql.Identifier(Trace._meta.db_table),
        "partition": sql.Identifier(_PREFIX + experiment_id),
        "experiment": sql.Literal(experiment_id),
    }
    create = "CREATE TABLE {partition} (LIKE {table} INCLUDING CONSTRAINTS)"
    attach = "ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({experiment})"
    with connection.cursor() as cursor:
        for statement in (create, attach):
            cursor.execute(sql.SQL(statement).format(**names))


def remove(experiment_id: str) -> None:
    """Removes the traces of an experiment whose own row is gone, as the last step of the caller's transaction.

    Last, because the table stays locked until the commit. While someone reads traces for long, the rows are deleted
    instead, and the next deletion takes the empty partition along.
    """
    if not drop_unowned(experiment_id):
        # Without the ORM's walk over millions of rows.
        Trace.objects.filter(experiment_id=experiment_id)._raw_delete(using="default")


def drop_unowned(first: str = "") -> bool:
    """Drops partitions whose experiments are gone, that of `first` and a few that earlier deletions had to leave.

    False, and none is dropped, when the table stayed in use, and where there are no partitions.
    """
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute(_UNOWNED, {"table": Trace._meta.db_table, "prefix": _PREFIX, "first": _PREFIX + first})
        unowned = sql.SQL(", ").join([sql.Identifier(name) for (name,) in cursor.fetchall()])
        if not unowned.seq:
            return True
        try:
            with transaction.atomic():
                cursor.execute("SELECT current_setting('lock_timeout')")
                (lock_timeout,) = cursor.fetchone()
                cursor.execute(_SET_LOCK_TIMEOUT, [f"{DROP_LOCK_TIMEOUT_MS}ms"])
                cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(unowned))
                cursor.execute(_SET_LOCK_TIMEOUT, [lock_timeout])
        except OperationalError as error:
            if isinstance(error.__cause__, errors.LockNotAvailable):
                return False
            raise
    return True
