"""Arguments of commands: routes as plain data, the user, and the output of a command whose input is refused."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.errors import Code, InvalidInput, shown


class InputCommand(BaseCommand):
    """A command that ends with exit status 1 and the errors, one per line, when its input is refused."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except InvalidInput as invalid:
            raise CommandError(invalid.text) from invalid


def parse_route(text: str) -> dict[str, Any]:
    """Returns a route from SERVICE=HOST:PORT@WEIGHT,…, as `routing` of a plan has it.

    The plan checks the names and numbers later.

    Raises:
        InvalidInput: the text has another form.
    """
    service, equals, listed = text.partition("=")
    if not equals or not service or not listed:
        raise InvalidInput.of("--route", Code.FORMAT, f"must be SERVICE=HOST:PORT@WEIGHT,…, got {shown(text)}")
    return {"service": service, **parse_hosts("--route", listed.split(","))}


def parse_hosts(argument: str, parts: list[str]) -> dict[str, list[Any]]:
    """Returns hosts and weights from HOST:PORT@WEIGHT; the default weight is 1.

    Raises:
        InvalidInput: a weight is not a number; the path is `argument`.
    """
    hosts: list[str] = []
    weights: list[float] = []
    for part in parts:
        host, at, weight = part.strip().partition("@")
        try:
            weights.append(float(weight) if at else 1)
        except ValueError as error:
            message = f"must be HOST:PORT@WEIGHT, where {shown(weight)} is not a number"
            raise InvalidInput.of(argument, Code.FORMAT, message) from error
        hosts.append(host)
    return {"hosts": hosts, "weights": weights}


def user_name(default: str) -> str:
    """Returns the name of the user who runs the command, or `default` for one without a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return default
