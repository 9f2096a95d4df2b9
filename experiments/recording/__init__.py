"""Records telemetry and events of running experiments: what a daemon runs beside everything else.

recorder   the loop: every second, or sooner when much has come, what was heard is stored
listener   hears the topics, in a thread of its own, so that a slow database does not make the broker wait
backlog    what was heard and is not stored yet, bounded
store      the one transaction: each arrival goes to every experiment that was active when it came
"""

from experiments.recording.recorder import Recorder

__all__ = ["Recorder"]
