"""`manage.py set_route SERVICE HOST:PORT@WEIGHT ...`: sets the weighted hosts of a service."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from experiments.management.route_arguments import parse_hosts
from routing import services
from routing.errors import InvalidInput


class Command(BaseCommand):
    help = "Sets the weighted hosts of a service in the routing table, and prints its record."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("hosts", metavar="HOST:PORT@WEIGHT", nargs="+", help="without @WEIGHT the weight is 1")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            targets = parse_hosts(options["hosts"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        try:
            record = services.set_record(options["service"], targets["hosts"], targets["weights"], by="set_route")
        except InvalidInput as invalid:
            raise CommandError(invalid.text) from invalid
        self.stdout.write(f"{record!r} version {record.version}")
