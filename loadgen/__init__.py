"""The worker: runs shards of client groups on an edge device. Free of Django."""

from loadgen import compiled

compiled.search(__name__, __path__)
