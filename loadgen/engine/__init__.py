"""The engine of a shard: sends a client group's requests on time, and records a row of each.

Everything runs on one event loop in one thread. Some modules are compiled where there is a C compiler
(loadgen/compiled); a `.pxd` beside a module has the C types of its attributes.
"""

# ruff: noqa: E402 - the imports below must find the compiled modules
from loadgen import compiled

compiled.search(__name__, __path__)

from loadgen.engine.client_app import is_local
from loadgen.engine.engine import Engine, EngineGauges
from loadgen.engine.errors import AppError
from loadgen.engine.http.sources import SourceFactory, file_sources
from loadgen.engine.routes import Routes, build_routes

__all__ = ["AppError", "Engine", "EngineGauges", "Routes", "SourceFactory", "build_routes", "file_sources", "is_local"]
