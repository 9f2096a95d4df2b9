"""Reads responses: heads, chunked bodies, and whole responses for client apps."""

from loadgen import compiled

compiled.search(__name__, __path__)
