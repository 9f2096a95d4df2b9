"""`manage.py set_route SERVICE HOST:PORT@WEIGHT ...`: sets the weighted hosts of a service."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from experiments.management.arguments import InputCommand, parse_hosts
from routing import services


class Command(InputCommand):
    help = "Sets the weighted hosts of a service in the routing table, and prints its record."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("hosts", metavar="HOST:PORT@WEIGHT", nargs="+", help="without @WEIGHT the weight is 1")

    def handle(self, *args: Any, **options: Any) -> None:
        record = services.set_record(options["service"], **parse_hosts("hosts", options["hosts"]), by="set_route")
        self.stdout.write(f"{record!r} version {record.version}")
