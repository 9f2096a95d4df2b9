"""One trace batch, from its message to its acknowledgement."""

from __future__ import annotations

import logging

from experiments import summary
from experiments.ingest import acknowledge
from experiments.ingest.received import read
from experiments.ingest.store import store
from experiments.models import Experiment
from loadgen.messages import MessageError

log = logging.getLogger(__name__)


def ingest(payload: bytes) -> None:
    """Stores a batch and acknowledges it; one that is stored already is only acknowledged again.

    What is no batch is logged, counted and dropped. A database error propagates: nothing was stored or acknowledged,
    and the agent sends the batch again.
    """
    try:
        batch = read(payload)
    except MessageError as error:
        log.error("a trace batch was dropped: %s", error)
        acknowledge.count_malformed()
        return
    stored = store(batch)
    if stored.orphan:
        log.warning("batch %s of group %s belongs to nothing here", batch.id, batch.header.group_id)
    more_is_waiting = acknowledge.acknowledge(batch.header, orphan=stored.orphan)
    # Only the last of many late batches revises the summary: the others would do the same work for nothing.
    if stored.new and not more_is_waiting:
        late = Experiment.objects.filter(id=stored.experiment_id, status__in=Experiment.ENDED).first()
        if late is not None:
            summary.revise(late)
