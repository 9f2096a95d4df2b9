"""The faults, by family; importing this module makes them known."""

from tests.faults.faults import FAULTS
from tests.faults.rows import broker, cancel, control, database, delivery, interactive, worker

__all__ = ["FAULTS", "broker", "cancel", "control", "database", "delivery", "interactive", "worker"]
