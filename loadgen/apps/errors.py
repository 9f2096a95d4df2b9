"""What is wrong with a client app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One reason why an app is refused; `field` reads like `manifest.yml: parameters.size.minimum`."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class AppInvalid(ValueError):
    """An app, or its archive, breaks the rules; `faults` holds every reason that was found. Nothing was stored."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("; ".join(map(str, self.faults)))
