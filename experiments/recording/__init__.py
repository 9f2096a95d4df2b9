"""Recording: stores telemetry and published events of running experiments. The experiment daemon runs a Recorder."""

from experiments.recording.recorder import Recorder

__all__ = ["Recorder"]
