"""`python -m tests.support.killed_daemon MOMENT`: the experiment daemon, which kills itself with SIGKILL at a moment.

All it does until then is what the daemon does: at the moment, a call of its own code is followed by the kill.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import django
from django.core.management import call_command

MOMENTS = ("taken", "ticketed", "before the commit", "after the commit", "removed")


def main(moment: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "galileo_site.settings"
    django.setup()
    from experiments.instructions import processing
    from experiments.instructions.queue import InstructionQueue
    from experiments.services import sending

    place: dict[str, tuple[Any, str]] = {
        "taken": (InstructionQueue, "wait"),
        "ticketed": (InstructionQueue, "oldest"),
        "before the commit": (sending, "kick_reconcile"),  # the last step within the transaction
        "after the commit": (processing, "process"),
        "removed": (InstructionQueue, "remove"),
    }
    owner, name = place[moment]
    real = getattr(owner, name)

    def then_die(*arguments: Any) -> Any:
        result = real(*arguments)
        if name != "oldest" or result is not None:  # an empty list has no oldest entry
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, then_die)
    call_command("experimentd")


if __name__ == "__main__":
    main(sys.argv[1])
