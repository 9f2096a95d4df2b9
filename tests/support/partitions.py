"""Partitions of experiments that tests make without the service."""

from experiments.services import partitions


def make_partition(experiment_id: str) -> None:
    """Makes the partition of an experiment that is about to be made; nothing where the database has none.

    A test that commits leaves its partitions behind, because the flush after it only empties tables. They go here:
    another test may give its experiment the same id.
    """
    partitions.drop_unowned()
    partitions.add(experiment_id)
