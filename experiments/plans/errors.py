"""What is wrong with a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A wrong file of a million numbers is explained by its first errors.
MAX_ERRORS = 100


@dataclass(frozen=True)
class PlanError:
    """One reason why a plan is refused; `path` reads like `configuration.workloads[0].ticks[2]`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class PlanInvalid(ValueError):
    """A plan breaks the rules. `errors` holds every reason; nothing was created."""

    def __init__(self, errors: Sequence[PlanError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(str(error) for error in self.errors))


class Problems:
    """Collects errors while a plan is read."""

    def __init__(self) -> None:
        self._errors: list[PlanError] = []
        self._beyond = 0

    def __len__(self) -> int:
        return len(self._errors) + self._beyond

    def add(self, path: str, message: str) -> None:
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(PlanError(path, message))
        else:
            self._beyond += 1

    @property
    def errors(self) -> list[PlanError]:
        """What was added; where there was too much, the last one says how much more."""
        if not self._beyond:
            return list(self._errors)
        return [*self._errors, PlanError("plan", f"and {self._beyond} more errors of this kind")]

    def raise_if_any(self) -> None:
        """Raises PlanInvalid with everything that was added."""
        if self._errors:
            raise PlanInvalid(self.errors)
