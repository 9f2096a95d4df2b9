"""What flows back arrives twice, in another order, or too late."""

from tests.faults.faults import IDLE, OWN, fault
from tests.faults.relay import SINK, HeldBack, Relay, Rule, Shuffled, twice
from tests.faults.rig import Rig
from tests.support.waiting import wait_for

LATE = 15  # the first batches have no rows: they were sealed before the start


def relayed(rig: Rig, rule: Rule) -> None:
    """Puts a relay between the workers and ingest, until the row's end."""
    # The settings know one ingest queue only, and with SQLite there must be no second.
    rig.start_otherwise("ingest", "--", "task.create_missing_queues=true", galileo_ingest_queue="1")
    # What the relay delivers at its end may be a repetition, which nobody waits for.
    rig.cleanup.callback(wait_for, lambda: not rig.broker.llen(SINK), "ingest to take the last batches")
    rig.cleanup.enter_context(Relay(rig.galileo.redis.url, rule))


@fault("every batch delivered twice", when=IDLE)
def delivered_twice(rig: Rig) -> None:
    relayed(rig, twice)


@fault("batches delivered out of order", when=OWN)
def out_of_order(rig: Rig) -> None:
    rule = Shuffled(rig.random)
    relayed(rig, rule)
    rig.begin()
    rig.wait_for_status("FINISHED")
    rig.claim(rule.moved > 5, f"only {rule.moved} batches overtook another")


# FINALIZING waits a minute for what the shards' totals name.
@fault("a batch after the end", when=OWN, duration_s=4.0, overtime_s=75.0)
def after_the_end(rig: Rig) -> None:
    rule = HeldBack(LATE)
    relayed(rig, rule)
    rig.begin()
    rig.wait_for_status("FINISHED", within_s=120)
    account = rig.galileo.web.experiment(rig.experiment_id)["summary"]["account"]
    rig.claim(account["missing"] > 0, "nothing was missing, so that nothing could come late")
    rule.release()
