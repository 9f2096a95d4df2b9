"""The wording of all refusals of plans, pinned in messages.txt.

`python -m tests.experiments.plans.messages` writes the file again after a change of wording; review its diff.
"""

from __future__ import annotations

from pathlib import Path

from experiments.plans import PlanInvalid, load_yaml, parse
from tests.experiments.plans.bad_plans import BAD, BAD_FILES, plan_with

FILE = Path(__file__).with_name("messages.txt")


def messages() -> str:
    """One line for each error of bad_plans.BAD and BAD_FILES, in their order."""
    lines = []
    for read, data in [*((parse, plan_with(row[0])) for row in BAD), *((load_yaml, row[0]) for row in BAD_FILES)]:
        try:
            read(data)  # type: ignore[operator]
        except PlanInvalid as invalid:
            lines += [f"{error.code} {error}" for error in invalid.errors]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    FILE.write_text(messages())
