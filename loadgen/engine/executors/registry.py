"""The registry of executors by load model: each module of this package registers its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

from loadgen.engine import executors
from loadgen.engine.executors.base import Executor, ExecutorContext

Builder = Callable[[ExecutorContext], Executor]
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)

_BUILDERS: dict[str, Builder] = {}


def register(model: str) -> Callable[[AnyBuilder], AnyBuilder]:
    """Returns a decorator that makes a function or a class the builder of a load model's executor."""

    def add(builder: AnyBuilder) -> AnyBuilder:
        _BUILDERS[model] = builder
        return builder

    return add


def build(model: str, context: ExecutorContext) -> Executor:
    """Returns the executor of a load model.

    Raises:
        ValueError: no module of the package has registered the model.
    """
    for module in pkgutil.iter_modules(executors.__path__):
        importlib.import_module(f"{executors.__name__}.{module.name}")
    builder = _BUILDERS.get(model)
    if builder is None:
        raise ValueError(f"model must be one of {', '.join(sorted(_BUILDERS))}, got {model!r:.80}")
    return builder(context)
