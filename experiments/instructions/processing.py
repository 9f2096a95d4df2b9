"""InstructionLoop: takes instructions from the queue, and creates exactly one experiment for each.

The experiment is queued like any other, or is FAILED with the errors of its instruction.
"""

from __future__ import annotations

import logging
import threading

from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    close_old_connections,
    connection,
)
from django.utils import timezone
from redis.exceptions import RedisError

from experiments import plans, selectors
from experiments.instructions.compiler import compile_script, live_hosts
from experiments.instructions.message import Instruction, UnreadableInstruction, read
from experiments.instructions.queue import Entry, InstructionQueue
from experiments.instructions.script import parse
from experiments.models import Experiment, ExperimentStatus
from experiments.plans import Plan
from experiments.services import events, experiments
from experiments.services.workers import NoMatchingWorkers, matching_workers, sync_workers
from loadgen.protocol.keys import INSTRUCTIONS_KEY
from routing.errors import Code, FieldError, InvalidInput

log = logging.getLogger(__name__)

UNNAMED = "instructions"
CREATOR = "experimentd"

# The longest wait for an instruction: the daemon must end within two seconds of a signal.
WAIT_S = 1
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
# Redis or the database is unavailable, or the database has no tables yet.
UNAVAILABLE = (RedisError, OperationalError, InterfaceError, ProgrammingError)
_SHOWN = 200  # bytes of an instruction in the log


class InstructionLoop:
    """Processes one instruction after the other, oldest first.

    While Redis or the database is unavailable, the instruction waits and is tried again. One that can never be
    processed is logged, and does not block the next.
    """

    def __init__(self, queue: InstructionQueue) -> None:
        self._queue = queue

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set."""
        log.info("instructions are taken from %s", INSTRUCTIONS_KEY)
        pause_s = 0.0
        while not stop.is_set():
            try:
                self.step()
            except UNAVAILABLE as error:
                if not pause_s:
                    log.warning("instructions wait: %s", error)
                connection.close()
                pause_s = min(2 * pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
                stop.wait(pause_s)
            else:
                if pause_s:
                    log.info("instructions are taken again")
                pause_s = 0.0

    def step(self) -> None:
        """Processes the oldest instruction, or waits up to WAIT_S for one."""
        entry = self._queue.oldest()
        if entry is None:
            self._queue.wait(WAIT_S)
            return
        close_old_connections()
        try:
            process(entry)
        except UNAVAILABLE:
            raise
        except Exception:  # a programming error must not block all later instructions
            log.exception(
                "instruction %s cannot be processed and is dropped: %r", entry.instruction_id, entry.pushed[:_SHOWN]
            )
        self._queue.remove(entry)


def process(entry: Entry) -> None:
    """Creates the experiment of an instruction unless it exists. The caller removes the instruction afterwards.

    Raises:
        redis.RedisError, DatabaseError: nothing was created; try again.
    """
    if _has_experiment(entry):
        log.info("instruction %s has its experiment already", entry.instruction_id)
        return
    try:
        instruction = read(entry.pushed)
    except UnreadableInstruction as error:
        log.error("an instruction was refused: %s (it begins with %r)", error, entry.pushed[:_SHOWN])
        return
    try:
        experiment = _create(instruction, entry.instruction_id)
    except (experiments.IdTaken, IntegrityError) as error:
        if _has_experiment(entry):
            log.info("another daemon processed instruction %s first", entry.instruction_id)
        elif isinstance(error, experiments.IdTaken) and instruction.experiment_id:
            if Experiment.objects.filter(id=instruction.experiment_id).exists():
                _refuse(str(error), instruction.experiment_id, entry.instruction_id)
            else:  # only traces of a deleted experiment have this id
                _log_result(entry, _create_failed(instruction, entry.instruction_id, str(error)))
        else:
            raise
    else:
        _log_result(entry, experiment)


def _log_result(entry: Entry, experiment: Experiment) -> None:
    if experiment.status == ExperimentStatus.FAILED:
        log.warning("instruction %s: experiment %s FAILED: %s", entry.instruction_id, experiment.id, experiment.reason)
    else:
        log.info("instruction %s: experiment %s is %s", entry.instruction_id, experiment.id, experiment.status)


def _has_experiment(entry: Entry) -> bool:
    return Experiment.objects.filter(instruction_id=entry.instruction_id).exists()


def _create(instruction: Instruction, instruction_id: str) -> Experiment:
    try:
        plan = _plan_of(instruction)
        return experiments.create(plan, CREATOR, experiment_id=instruction.experiment_id, instruction_id=instruction_id)
    except (InvalidInput, NoMatchingWorkers) as error:
        return _create_failed(instruction, instruction_id, str(error))


def _create_failed(instruction: Instruction, instruction_id: str, reason: str) -> Experiment:
    return experiments.create_failed(
        _name_of(instruction),
        instruction.creator or CREATOR,
        reason,
        metadata=_metadata_of(instruction),
        experiment_id=instruction.experiment_id,
        instruction_id=instruction_id,
    )


def _plan_of(instruction: Instruction) -> Plan:
    """The plan of an instruction's script.

    Raises:
        InvalidInput: with all errors of the instruction and of its script.
        NoMatchingWorkers: there is no live worker.
    """
    errors = [FieldError(error.path, Code.FORMAT, error.message) for error in instruction.errors]
    commands = []
    try:
        commands = parse(instruction.script)
    except InvalidInput as invalid:
        errors += invalid.errors
    if errors:
        raise InvalidInput(errors)
    sync_workers()
    matching_workers({})
    about = {"name": _name_of(instruction), "creator": instruction.creator or None}
    compiled = compile_script(commands, live_hosts, selectors.client_app_of)
    return plans.parse({"experiment": about, **compiled, "metadata": _metadata_of(instruction)})


def _name_of(instruction: Instruction) -> str:
    return instruction.name or instruction.experiment_id or UNNAMED


def _metadata_of(instruction: Instruction) -> dict[str, str]:
    return {"instructions": instruction.script}


def _refuse(reason: str, experiment_id: str, instruction_id: str) -> None:
    """Logs that the requested id is taken, and records it on the timeline of the experiment that has the id."""
    log.error("an instruction was refused: %s; give it another exp_id", reason)
    if existing := Experiment.objects.filter(id=experiment_id).first():
        message = "another instruction with this id was refused"
        events.record(existing.id, "instruction", message, key=f"instruction:{instruction_id}", at=timezone.now())
