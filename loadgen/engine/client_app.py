"""Client apps: a folder with `generator.py` (and maybe `manifest.yml`) whose `next_request()` says what to send."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import yaml

from loadgen.engine.errors import AppError, traceback_tail
from loadgen.environment import NAME_PATTERN

MANIFEST = "manifest.yml"
MODULE = "generator.py"


class ClientApp:
    """An app as it lies on disk, compiled once; `instance` executes its module for one client.

    Raises:
        AppError: when there is no such app, or its files cannot be read or compiled.
    """

    def __init__(self, name: str, apps_dir: Path | None) -> None:
        if apps_dir is None:
            raise AppError(f"client app {name!r}: this worker has no apps; set galileo_apps_dir to their folder")
        folder = apps_dir / name
        if not NAME_PATTERN.fullmatch(name) or not folder.is_dir():
            raise AppError(f"client app {name!r}: there is no such folder in {apps_dir}")
        self.name = name
        self.path = folder
        self.manifest = self._read_manifest()
        self._code = self._compile()

    def _read_manifest(self) -> dict[str, Any]:
        file = self.path / MANIFEST
        try:
            content = yaml.safe_load(file.read_bytes()) if file.exists() else {}
        except (OSError, yaml.YAMLError) as error:
            raise AppError(f"client app {self.name!r}: {MANIFEST} cannot be read: {error}") from error
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise AppError(f"client app {self.name!r}: {MANIFEST} must hold a mapping, not {type(content).__name__}")
        return content

    def _compile(self) -> CodeType:
        file = self.path / MODULE
        try:
            return compile(file.read_bytes(), str(file), "exec")
        except OSError as error:
            raise AppError(f"client app {self.name!r}: {MODULE} cannot be read: {error}") from error
        except (SyntaxError, ValueError) as error:
            raise AppError(f"client app {self.name!r}: {MODULE} is not Python:\n{traceback_tail(error)}") from error

    def instance(self, client: int, parameters: dict[str, Any]) -> AppInstance:
        """Executes the module for a client, with `context` (name, path, manifest, parameters) among its globals.

        Raises:
            AppError: when the module raises, or has no `next_request`.
        """
        # Dataclasses, among others, look their module up in sys.modules.
        module = ModuleType(f"galileo_app_{self.name}_{client}")
        module.__file__ = str(self.path / MODULE)
        module.context = SimpleNamespace(  # type: ignore[attr-defined]
            name=self.name, path=str(self.path), manifest=self.manifest, parameters=dict(parameters)
        )
        sys.modules[module.__name__] = module
        who = f"client app {self.name!r}, client {client}"
        try:
            exec(self._code, module.__dict__)
        except (Exception, SystemExit) as error:
            sys.modules.pop(module.__name__, None)
            raise AppError(f"{who}: {MODULE} raised {_sentence(error)}\n{traceback_tail(error)}") from error
        function = getattr(module, "next_request", None)
        if not callable(function):
            sys.modules.pop(module.__name__, None)
            raise AppError(f"{who}: {MODULE} defines no function next_request()")
        return AppInstance(who, module, function)


class AppInstance:
    """The module of one client."""

    __slots__ = ("_function", "_module", "who")

    def __init__(self, who: str, module: ModuleType, function: Callable[[], Any]) -> None:
        self.who = who
        self._module = module
        self._function = function

    def next_request(self) -> tuple[Any, Any, Any]:
        """Method, endpoint and keywords of the client's next request.

        Raises:
            AppError: when the app raises, or returns something else.
        """
        try:
            request = self._function()
        except (Exception, SystemExit) as error:
            raise AppError(f"{self.who}: next_request() raised {_sentence(error)}\n{traceback_tail(error)}") from error
        if type(request) is tuple and len(request) == 3 and request[2] is not None:
            return request
        if not isinstance(request, (tuple, list)) or len(request) not in (2, 3):
            raise AppError(f"{self.who}: next_request() must return (method, endpoint, keywords), not {request!r:.80}")
        method, endpoint = request[0], request[1]
        return method, endpoint, (request[2] if len(request) == 3 and request[2] is not None else {})

    def close(self) -> None:
        sys.modules.pop(self._module.__name__, None)


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
