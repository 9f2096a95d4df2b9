"""An instruction → an experiment: queued like any other, or FAILED with what is wrong."""

from __future__ import annotations

import logging

from django.db import IntegrityError
from django.utils import timezone

from experiments import plans, selectors
from experiments.instructions.compiler import compile_script
from experiments.instructions.hosts import live_hosts
from experiments.instructions.message import Instruction, UnreadableInstruction, read
from experiments.instructions.queue import Entry
from experiments.instructions.script import parse
from experiments.models import Experiment
from experiments.plans import Plan, PlanInvalid
from experiments.services import events, ids, placement
from experiments.services import experiments as services
from experiments.services.placement import NoMatchingWorkers
from experiments.services.registry import sync_workers

log = logging.getLogger(__name__)

UNNAMED = "instructions"
CREATOR = "experimentd"
_SHOWN = 200


def carry_out(entry: Entry) -> None:
    """Makes an instruction's experiment, unless that has been done; whoever calls removes the instruction then.

    Raises:
        redis.RedisError, DatabaseError: nothing was made; it is to be tried again.
    """
    if _is_made(entry):
        log.info("instruction %s has its experiment already", entry.ticket)
        return
    try:
        instruction = read(entry.pushed)
    except UnreadableInstruction as error:
        log.error("an instruction is refused: %s (it begins with %r)", error, entry.pushed[:_SHOWN])
        return
    try:
        experiment = _make(instruction, entry.ticket)
    except (ids.IdTaken, IntegrityError) as error:
        if _is_made(entry):
            log.info("another daemon was quicker with instruction %s", entry.ticket)
        elif isinstance(error, ids.IdTaken) and instruction.experiment_id:
            if Experiment.objects.filter(id=instruction.experiment_id).exists():
                _refuse(str(error), instruction.experiment_id, entry.ticket)
            else:  # the traces of an earlier one are in the way, and that one is no more
                _tell(entry.ticket, _make_failed(instruction, entry.ticket, str(error)))
        else:
            raise
    else:
        _tell(entry.ticket, experiment)


def _tell(ticket: str, experiment: Experiment) -> None:
    if experiment.status == Experiment.Status.FAILED:
        log.warning("instruction %s is experiment %s, FAILED: %s", ticket, experiment.id, experiment.reason)
    else:
        log.info("instruction %s is experiment %s, %s", ticket, experiment.id, experiment.status)


def _is_made(entry: Entry) -> bool:
    return Experiment.objects.filter(ticket=entry.ticket).exists()


def _make(instruction: Instruction, ticket: str) -> Experiment:
    try:
        plan = _plan_of(instruction)
        return services.create(plan, CREATOR, experiment_id=instruction.experiment_id, ticket=ticket)
    except (PlanInvalid, NoMatchingWorkers) as error:
        return _make_failed(instruction, ticket, str(error))


def _make_failed(instruction: Instruction, ticket: str, reason: str) -> Experiment:
    return services.create_failed(
        _name_of(instruction),
        instruction.creator or CREATOR,
        reason,
        metadata=_metadata_of(instruction),
        experiment_id=instruction.experiment_id,
        ticket=ticket,
    )


def _plan_of(instruction: Instruction) -> Plan:
    """Raises PlanInvalid with all that can be known at once, and NoMatchingWorkers when there is no worker at all."""
    errors, commands = list(instruction.errors), []
    try:
        commands = parse(instruction.script)
    except PlanInvalid as invalid:
        errors += invalid.errors
    if errors:
        raise PlanInvalid(errors)
    sync_workers()
    placement.matching_workers({})
    about = {"name": _name_of(instruction), "creator": instruction.creator or None}
    compiled = compile_script(commands, live_hosts, selectors.client_app_of)
    return plans.parse({"experiment": about, **compiled, "metadata": _metadata_of(instruction)})


def _name_of(instruction: Instruction) -> str:
    return instruction.name or instruction.experiment_id or UNNAMED


def _metadata_of(instruction: Instruction) -> dict[str, str]:
    return {"instructions": instruction.script}


def _refuse(reason: str, experiment_id: str, ticket: str) -> None:
    """Says that an id is taken, on the timeline of the experiment that has it, too."""
    log.error("an instruction is refused: %s; give it another exp_id", reason)
    if there := Experiment.objects.filter(id=experiment_id).first():
        sentence = "another instruction asked for this id, and was refused"
        events.record(there.id, "instruction", sentence, key=f"instruction:{ticket}", at=timezone.now())
