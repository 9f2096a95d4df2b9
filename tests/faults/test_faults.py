"""Under each fault, the plan, the target's log and the database agree, or what is lost is counted and named."""

import logging

import pytest

from tests.faults.conftest import OUTCOMES
from tests.faults.row import Outcome, run_row
from tests.faults.table import line

log = logging.getLogger(__name__)


@pytest.mark.timeout(400)
def test_what_was_planned_is_sent_and_stored_under(fault, database, stacks, request):
    seed = request.config.getoption("--fault-seed")
    for _ in range(1 + request.config.getoption("--fault-retries")):
        outcome = Outcome(fault.name, database, seed)
        request.config.stash[OUTCOMES].append(outcome)
        stack = stacks.on(database)
        try:
            run_row(stack, fault, seed, outcome)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row is red
            outcome.findings.append(f"{type(error).__name__}: {error}")
        log.info("%s", line(outcome))
        if not outcome.findings:
            return
        tails = stack.galileo.log_tails(30)
        stacks.end()
    raise AssertionError("\n".join([*outcome.findings, tails]))
