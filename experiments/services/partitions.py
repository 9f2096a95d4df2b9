"""The partitions of PostgreSQL's table of traces: one per experiment, created and dropped with it.

So a report reads only its experiment's rows, and a deletion leaves no dead rows. There is no default partition: a trace
of an experiment without a partition is refused. Other databases store all traces in one table.
"""

from __future__ import annotations

from django.db import OperationalError, connection, transaction
from django.db.backends.postgresql.psycopg_any import errors, sql

from experiments.models import Experiment, Trace

# Dropping a partition locks the whole table, and later transactions wait, too. Longer than storing a batch takes, and
# much shorter than a report may read.
DROP_LOCK_TIMEOUT_MS = 500
# By default, a server has some thousand locks, and dropping a partition takes about twenty.
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
    """Drops the partition that a deletion left behind for this id; returns False while it is in use."""
    if connection.vendor != "postgresql" or drop_unowned(experiment_id):
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_class WHERE relname = %s)", [_PREFIX + experiment_id])
        (exists,) = cursor.fetchone()
    return not exists


def add(experiment_id: str) -> None:
    """Creates the partition of a new experiment, within the caller's transaction.

    Readers and writers of traces do not block it, nor does it block them: ATTACH does not lock the whole table, as
    CREATE TABLE … PARTITION OF would.
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

    Last, because the table stays locked until the commit. While another transaction reads traces for long, the rows are
    deleted instead, and the next deletion drops the empty partition.
    """
    if not drop_unowned(experiment_id):
        # The ORM's own delete would load millions of rows.
        Trace.objects.filter(experiment_id=experiment_id)._raw_delete(using="default")


def drop_unowned(first: str = "") -> bool:
    """Drops partitions without an experiment: that of `first`, and some that earlier deletions left behind.

    Returns False, and drops none, while the table is in use, and on databases without partitions.
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
