"""The `galileo` command line: client apps in the repository of a controller.

    galileo app ls                    lists the apps
    galileo app deploy --path PATH    uploads a folder, which it packs, or a zip archive
    galileo app rm NAME               removes an app with all its versions

`galileo_api_url` is the URL of the controller's API; `galileo_api_token`, or `galileo_api_user` and
`galileo_api_password`, are the credentials. The exit status is 0, 1 when the controller refuses a request or cannot be
reached, or 2 for invalid arguments, settings or apps, of which nothing is sent.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests

from loadgen.apps import archive
from loadgen.protocol.variables import PREFIX
from routing.errors import Code, FieldError, InvalidInput

DEFAULT_URL: Final = "http://localhost:5001/api"
EXIT_REFUSED: Final = 1
EXIT_WRONG: Final = 2
_TIMEOUT_S: Final = (5.0, 120.0)  # connect and read; the controller may have to unpack 50 MB


class RefusedError(Exception):
    """The controller refuses a request or cannot be reached; the message gives the reason."""


def _send_token(token: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Adds a token; unlike a session's header, it is not replaced by credentials of a .netrc file."""
    request.headers["Authorization"] = f"Token {token}"
    return request


class Api:
    """A controller's API. Raises InvalidInput for invalid settings."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._url = environ.get(f"{PREFIX}api_url", "").strip().rstrip("/") or DEFAULT_URL
        url = urlsplit(self._url)
        if "@" in url.netloc:  # the URL is part of messages
            message = f"must not have a user name or password; set {PREFIX}api_user and {PREFIX}api_password"
            raise InvalidInput.of(f"{PREFIX}api_url", Code.FORMAT, message)
        if url.scheme not in ("http", "https") or not url.netloc:
            message = f"must be a URL such as {DEFAULT_URL}, got {self._url!r}"
            raise InvalidInput.of(f"{PREFIX}api_url", Code.FORMAT, message)
        self._session = requests.Session()
        token, user = environ.get(f"{PREFIX}api_token", "").strip(), environ.get(f"{PREFIX}api_user", "").strip()
        if token:
            self._session.auth = partial(_send_token, token)
        elif user:
            self._session.auth = (user, environ.get(f"{PREFIX}api_password", ""))

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Returns the JSON content of the answer. Raises RefusedError."""
        try:
            # Following a redirect would turn a POST into a GET.
            answer = self._session.request(
                method, self._url + path, timeout=_TIMEOUT_S, allow_redirects=False, **options
            )
        except requests.RequestException as error:
            raise RefusedError(f"the controller at {self._url} ({PREFIX}api_url) cannot be reached: {error}") from error
        if answer.is_redirect:
            raise RefusedError(f"{self._url} redirects to {answer.headers['Location']}: correct {PREFIX}api_url")
        try:
            content = answer.json()
        except requests.JSONDecodeError:
            content = None
        if not answer.ok:
            raise RefusedError(_reason(answer, content))
        if content is None:
            raise RefusedError(f"{self._url} is not the API of Galileo: correct {PREFIX}api_url")
        return content


def _reason(answer: requests.Response, content: Any) -> str:
    """Returns the reason of an error response: its errors, one per line, or its detail."""
    body = content if isinstance(content, dict) else {}
    if answer.status_code == 401:
        return (
            f"authentication is required ({body.get('detail', '')}): set {PREFIX}api_token "
            f"(`manage.py drf_create_token USER` makes one), or {PREFIX}api_user and {PREFIX}api_password"
        )
    if answer.status_code == 403:
        needed = "view_clientapp, upload_clientapp, delete_clientapp"
        return f"{body.get('detail', 'permission denied')} (the permissions are {needed})"
    if errors := body.get("errors"):
        return InvalidInput(FieldError(each["field"], each["code"], each["message"]) for each in errors).text
    return str(body.get("detail") or f"the controller responded with {answer.status_code} {answer.reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        line = options.command(Api(os.environ), options)
    except InvalidInput as invalid:
        sys.stderr.write(f"galileo: {invalid.text}\n")
        return EXIT_WRONG
    except RefusedError as error:
        sys.stderr.write(f"galileo: {error}\n")
        return EXIT_REFUSED
    sys.stdout.write(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="galileo", description="The command line of Galileo.")
    app = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "app", help="client apps in the repository"
    )
    commands = app.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("ls", help="list the apps").set_defaults(command=_list)
    deploy = commands.add_parser("deploy", help="pack an app and upload it")
    deploy.add_argument("--path", required=True, type=Path, metavar="DIR|ZIP", help="the app's folder, or its archive")
    deploy.set_defaults(command=_deploy)
    remove = commands.add_parser("rm", help="remove an app with all its versions")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(command=_remove)
    return parser


def _list(api: Api, _: argparse.Namespace) -> str:
    lines = []
    for app in api.call("GET", "/apps"):
        about = " ".join(str(app["manifest"].get(key) or "").strip() for key in ("version", "description")).strip()
        lines.append(f"{app['name']}  {about}".rstrip() + "\n")
    return "".join(lines)


def _deploy(api: Api, options: argparse.Namespace) -> str:
    data = _read(options.path)
    app = api.call("POST", "/apps", data=data, headers={"Content-Type": "application/zip"})
    return f"deployed {app['name']} (SHA-256 {archive.digest_of(data)})\n"


def _remove(api: Api, options: argparse.Namespace) -> str:
    if not api.call("DELETE", f"/apps/{quote(options.name, safe='')}"):
        raise RefusedError(f"the client app {options.name} does not exist")
    return f"removed {options.name}\n"


def _read(path: Path) -> bytes:
    """Returns the archive of a valid app. Raises InvalidInput."""
    try:
        if path.is_dir():
            return archive.pack(path)
        data = path.read_bytes()
        archive.check(data)
        return data
    except OSError as error:
        message = f"{error.filename or path} cannot be read: {error.strerror}"
        raise InvalidInput.of("--path", Code.MISSING, message) from error


if __name__ == "__main__":
    sys.exit(main())
