"""The executors of the load models; a module of this package registers one (see registry.py)."""

from loadgen import compiled

compiled.search(__name__, __path__)
