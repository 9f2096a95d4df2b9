"""HTTP: from what a client wants to send to bytes, connections and responses."""

from loadgen import compiled

compiled.search(__name__, __path__)
