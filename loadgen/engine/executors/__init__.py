"""The load models: open, closed and interactive."""

from loadgen import compiled

compiled.search(__name__, __path__)
