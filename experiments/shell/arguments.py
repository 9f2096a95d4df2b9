"""Checks of what a user gives to the shell's functions, where it is no plan's."""

from __future__ import annotations

from experiments.plans import PlanError, PlanInvalid
from experiments.plans.fields import MAX_DURATION_S, number_reason


def check_timeout(timeout: object) -> None:
    """Raises PlanInvalid for a `timeout` that is neither None nor a number of seconds: none would ever end with NaN."""
    if timeout is not None and (reason := number_reason(timeout, 0, MAX_DURATION_S)):
        raise PlanInvalid([PlanError("timeout", reason)])
