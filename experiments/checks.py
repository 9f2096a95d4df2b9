"""System checks: Galileo's own settings (`manage.py check --deploy`), and the migrations that a database has had."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

API_IS_OPEN = Warning(
    "galileo_api_auth is none: everyone who can reach the web server has full access to /api and can execute code on "
    "the workers.",
    hint="Keep it at required unless the server can be reached from a closed network only.",
    id="galileo.W001",
)
_OUR_APPS = ("experiments", "routing")


@register(Tags.security, deploy=True)
def check_api_auth(**_: Any) -> list[CheckMessage]:
    return [API_IS_OPEN] if settings.GALILEO_API_IS_OPEN else []


@register(Tags.database)
def check_database_version(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Refuses a database with migrations of another version of Galileo; `migrate` runs this first."""
    known = set(MigrationLoader(None).disk_migrations)
    errors: list[CheckMessage] = []
    for alias in databases or ():
        applied = MigrationRecorder(connections[alias]).applied_migrations()
        unknown = sorted(f"{app}.{name}" for app, name in applied if app in _OUR_APPS and (app, name) not in known)
        if unknown:
            errors.append(
                Error(
                    f"The database {connections[alias].settings_dict['NAME']!r} belongs to another version of Galileo, "
                    f"whose tables this version cannot read (migrations: {', '.join(unknown)}).",
                    hint="Create a new database and name it in galileo_expdb_*, or, for SQLite, move the file away.",
                    id="galileo.E001",
                )
            )
    return errors
