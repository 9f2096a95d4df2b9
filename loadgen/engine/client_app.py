"""ClientApp: a folder with a `generator.py`, and maybe a `manifest.yml`, that makes the clients' requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, Final, TypeVar

from loadgen.apps.archive import MODULE
from loadgen.apps.errors import AppInvalid
from loadgen.apps.manifest import MANIFEST, Manifest, read_manifest
from loadgen.apps.parameters import filled
from loadgen.engine.errors import AppError, traceback_tail
from loadgen.engine.http.response.app_response import AppResponse
from loadgen.engine.watchdog import CALL_LIMIT_S, LOAD_LIMIT_S, AppStuck, Watchdog
from loadgen.protocol.settings import NAME_PATTERN

Prepared = TypeVar("Prepared")

_CALL_LIMIT_NS: Final = round(CALL_LIMIT_S * 1e9)
_LOAD_LIMIT_NS: Final = round(LOAD_LIMIT_S * 1e9)


def find_app(name: str, apps_dir: Path | None, fetched: Path | None) -> Path:
    """Returns the folder of an app: this worker's own one, else the one that was fetched from the repository.

    Raises:
        AppError: the app is in neither place; the message names both.
    """
    if is_local(name, apps_dir):
        assert apps_dir is not None
        return apps_dir / name
    if fetched is not None:
        return fetched
    here = "this worker has no apps of its own (galileo_apps_dir)"
    if apps_dir is not None:
        here = f"{apps_dir} (galileo_apps_dir) does not contain it"
    raise AppError(
        f"client app {name!r}: {here}, and the repository had no such app when the experiment was created "
        "(`bin/galileo app deploy`)"
    )


def is_local(name: str | None, apps_dir: Path | None) -> bool:
    """Returns whether an app is one of this worker's own."""
    return bool(name and apps_dir and NAME_PATTERN.fullmatch(name) and (apps_dir / name).is_dir())


class ClientApp:
    """An app's files, read and compiled once; `instance` executes its module for one client, or for all of them.

    Raises:
        AppError: its files cannot be read, or are invalid.
    """

    def __init__(self, name: str, folder: Path, watchdog: Watchdog) -> None:
        self.name = name
        self.path = folder
        self.manifest = self._read_manifest()
        self._watchdog = watchdog
        self._code = self._compile()

    def _read_manifest(self) -> Manifest:
        file = self.path / MANIFEST
        try:
            return read_manifest(file.read_bytes() if file.exists() else b"", self.name)
        except OSError as error:
            raise AppError(f"client app {self.name!r}: {MANIFEST} cannot be read: {error}") from error
        except AppInvalid as error:
            raise AppError(f"client app {self.name!r}: {error}") from error

    def _compile(self) -> CodeType:
        file = self.path / MODULE
        try:
            return compile(file.read_bytes(), str(file), "exec")
        except OSError as error:
            raise AppError(f"client app {self.name!r}: {MODULE} cannot be read: {error}") from error
        except (SyntaxError, ValueError) as error:
            raise AppError(f"client app {self.name!r}: {MODULE} is not Python:\n{traceback_tail(error)}") from error

    def parameters(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns the parameters of the app's context: the plan's, and the app's own defaults. Raises AppError."""
        values, errors = filled(self.manifest.parameters, given, "client_parameters")
        if errors:
            raise AppError(f"client app {self.name!r}: {'; '.join(map(str, errors))}")
        return values

    def instance(self, client: int | None, parameters: dict[str, Any], began_ns: int) -> AppInstance:
        """Executes the module with `context` (name, path, manifest, parameters) among its globals.

        Args:
            client: the client of the instance; None for the one that all clients share.
            began_ns: now, by the clock of the watchdog.

        Raises:
            AppError: the module raises, does not end, or defines neither next_request() nor requests().
        """
        title = f"client app {self.name!r}" + ("" if client is None else f", client {client}")
        # Dataclasses, among others, look their module up in sys.modules.
        module = ModuleType(f"galileo_app_{self.name}_{'shared' if client is None else client}")
        module.__file__ = str(self.path / MODULE)
        module.context = SimpleNamespace(  # type: ignore[attr-defined]
            name=self.name, path=str(self.path), manifest=self.manifest.content, parameters=dict(parameters)
        )
        sys.modules[module.__name__] = module
        try:
            try:
                self._watchdog.until_ns = began_ns + _LOAD_LIMIT_NS
                exec(self._code, module.__dict__)
                source_name, function = _requests_of(module)
            except AppStuck as stuck:
                raise AppError(f"{title}: {MODULE} did not end within {LOAD_LIMIT_S:g} s\n{stuck.where}") from stuck
            except BaseException as error:  # raised by the app: no other signal handler raises here
                raise AppError(f"{title}: {MODULE} raised {_sentence(error)}\n{traceback_tail(error)}") from error
            finally:
                self._watchdog.call_ended()
            if function is None:
                raise AppError(f"{title}: {MODULE} defines no function next_request(), and no generator requests()")
            on_response = getattr(module, "on_response", None)
            if on_response is not None and not callable(on_response):
                raise AppError(f"{title}: on_response must be a function of one response, got {on_response!r:.80}")
        except AppError:
            sys.modules.pop(module.__name__, None)
            raise
        return AppInstance(title, module, source_name, function, on_response, self._watchdog)


def _requests_of(module: ModuleType) -> tuple[str, Callable[[], Any] | None]:
    """Returns the name of the module's source of requests, and the function to call for each; None if it has none."""
    function = getattr(module, "next_request", None)
    if callable(function):
        return "next_request()", function
    generator = getattr(module, "requests", None)
    if isinstance(generator, ModuleType) or not callable(generator):
        return "", None  # the library of that name, imported by the app, is not a generator
    requests: Iterator[Any] = iter(generator())
    return "requests()", requests.__next__


class AppInstance:
    """The module of one client, or of all.

    Attributes:
        source_name: the name of its source of requests, for messages.
        title: the app's name and the client, for messages.
        wants_responses: whether it defines `on_response`.
    """

    __slots__ = ("_function", "_module", "_on_response", "_watchdog", "source_name", "title", "wants_responses")

    def __init__(
        self,
        title: str,
        module: ModuleType,
        source_name: str,
        function: Callable[[], Any],
        on_response: Callable[[AppResponse], Any] | None,
        watchdog: Watchdog,
    ) -> None:
        self.title = title
        self.source_name = source_name
        self.wants_responses = on_response is not None
        self._module = module
        self._function = function
        self._on_response = on_response
        self._watchdog = watchdog

    def next_request(self, began_ns: int, prepare: Callable[[str, Any, Any, Any], Prepared], base_url: str) -> Prepared:
        """Returns the result of `prepare` for the app's next request: its base URL, method, endpoint and keywords.

        Args:
            began_ns: now, by the clock of the watchdog.
            prepare: may run code of the app, too: generators, files and objects in the keywords.

        Raises:
            AppError: the app raises, does not return, or returns an invalid request.
        """
        watchdog = self._watchdog
        try:
            watchdog.until_ns = began_ns + _CALL_LIMIT_NS
            try:
                request = self._function()
            except BaseException as error:  # any exception of the app ends the load, with its message
                raise self._failed(self.source_name, error) from error
            parts = self._parts(request)
            try:
                return prepare(base_url, *parts)
            except AppError as error:
                raise AppError(f"{self.title}: {self.source_name} returned an invalid request: {error}") from error
        except AppStuck as stuck:
            raise AppError(
                f"{self.title}: the request of {self.source_name} was not prepared within {CALL_LIMIT_S:g} s\n"
                f"{stuck.where}"
            ) from stuck
        finally:
            watchdog.call_ended()

    def _parts(self, request: Any) -> tuple[Any, Any, Any]:
        """Returns method, endpoint and keywords. Raises AppError."""
        if type(request) is tuple and len(request) == 3 and request[2] is not None:
            return request
        if not isinstance(request, (tuple, list)) or len(request) not in (2, 3):
            verb = "return" if self.source_name == "next_request()" else "yield"
            raise AppError(
                f"{self.title}: {self.source_name} must {verb} (method, endpoint, keywords), got {request!r:.80}"
            )
        method, endpoint = request[0], request[1]
        return method, endpoint, (request[2] if len(request) == 3 and request[2] is not None else {})

    def on_response(self, response: AppResponse, began_ns: int) -> None:
        """Passes a response to the app. Raises AppError if the app raises, or does not return."""
        assert self._on_response is not None  # as `wants_responses` is true
        watchdog = self._watchdog
        try:
            watchdog.until_ns = began_ns + _CALL_LIMIT_NS
            self._on_response(response)
            watchdog.call_ended()
        except BaseException as error:  # any exception of the app ends the load, with its message
            watchdog.call_ended()
            raise self._failed("on_response()", error) from error

    def close(self) -> None:
        sys.modules.pop(self._module.__name__, None)

    def _failed(self, function: str, error: BaseException) -> AppError:
        if isinstance(error, AppStuck):
            return AppError(f"{self.title}: {function} did not return within {CALL_LIMIT_S:g} s\n{error.where}")
        if isinstance(error, StopIteration) and function == "requests()":
            return AppError(f"{self.title}: {function} has ended; a generator of requests must never end")
        return AppError(f"{self.title}: {function} raised {_sentence(error)}\n{traceback_tail(error)}")


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
