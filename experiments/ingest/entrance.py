"""One trace batch, from its message to its answer."""

from __future__ import annotations

import logging

from experiments.analysis import summary
from experiments.ingest import acknowledge
from experiments.ingest.fairness import leaving_turns
from experiments.ingest.origin import find_origin
from experiments.ingest.received import read
from experiments.ingest.store import store
from loadgen.protocol.codec import MessageError

log = logging.getLogger(__name__)


@leaving_turns()
def ingest(payload: bytes) -> None:
    """Stores a batch and acknowledges it; one that is stored already is only acknowledged again.

    What is no batch is logged, counted and refused. A database error propagates: nothing was acknowledged, and the
    agent sends the batch again.
    """
    try:
        batch = read(payload)
    except MessageError as error:
        log.error("a trace batch was refused: %s", error)
        acknowledge.refuse(find_origin(payload), str(error))
        return
    stored = store(batch)
    if not stored.known:
        log.warning("batch %s belongs to nothing here", batch.header.id)
    elif stored.experiment_id is not None:
        # Before the acknowledgement, and for a duplicate, too: who stored it may have been killed before this.
        summary.mark_if_ended(stored.experiment_id)
    acknowledge.acknowledge(batch.origin, orphan=not stored.known)
