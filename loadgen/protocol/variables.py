"""The names of `galileo_*` environment variables: those of settings, those of labels, and those that are refused.

Every variable that is not a setting is a label of its worker, and labels can be seen by every user of the controller.
So a variable that was probably meant as a setting, or holds a secret, is refused. Its value is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from routing.errors import Code

PREFIX = "galileo_"
LABELS = "labels"
# Parts of a name: `pass` is part of password, passwd, passphrase; `key` of apikey; `auth` of oauth, authorization.
_SECRET_PARTS = ("pass", "pwd", "token", "secret", "key", "cred", "auth", "jwt", "bearer")
_SECRET_WORDS = ("pw", "psw", "pin", "dsn")
# A password that was not percent-encoded may contain /, ? and #: then only the colon tells a user name from a path.
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#\s]*|[^/?#\s]*:\S*)@")
# The variables that Kubernetes adds for each Service, as GALILEO_REDIS_PORT=tcp://10.0.0.1:6379 for galileo-redis:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S*")
_SERVICE_LINK = re.compile(
    r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_REDIS_SETTINGS = f"the server of Redis is set by {PREFIX}redis_host, _port, _username and _password"

# Galileo's own settings, which are not labels.
SECRET_SETTINGS = frozenset(
    "secret_key redis_password admin_password api_password api_token expdb_postgres_password "
    "expdb_mysql_password".split()
)
OWN_SETTINGS = SECRET_SETTINGS | frozenset(
    "redis_host redis_port redis_username labels slots apps_dir apps_repo_dir apps_repository apps_cache_dir "
    "apps_cache_limit_mb api_url api_user api_auth api_rate spool_dir spool_limit_mb logging_level ingest_queues "
    "ingest_queue trace_logging trace_dir trace_limit_mb telemetry_interval_s router_static_host state_dir compiled "
    "web_host web_port web_prefix trusted_proxies login_rate allowed_hosts debug https venv flower_host flower_port "
    "csrf_trusted_origins admin_user admin_email expdb_driver expdb_sqlite_path expdb_postgres_host "
    "expdb_postgres_port expdb_postgres_db expdb_postgres_user expdb_mysql_host expdb_mysql_port expdb_mysql_db "
    "expdb_mysql_user".split()
)
OWN_PREFIXES = ("expdb_", "admin_")
# These settings are labels, too: users address a worker by its name, and the controller requires a routing record only
# where a worker's router would read it.
LABEL_SETTINGS = frozenset({"worker_name", "router_type"})
_KNOWN = {PREFIX + name for name in OWN_SETTINGS | LABEL_SETTINGS}


def labels_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the labels of this device: each `galileo_*` variable that is neither a setting nor refused."""
    declared = _declared(environ)
    return {
        name.removeprefix(PREFIX): value.strip()
        for name, value in environ.items()
        if name.startswith(PREFIX) and value.strip() and not _is_own(name.removeprefix(PREFIX))
        if _refusal(name, value, declared) is None
    }


def refused_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Code, str]]:
    """Yields the full name of each variable that is refused, with the reason as a code and as a sentence.

    Refused are names that differ from that of a setting in one character, in two that were swapped or in their case;
    names that look like those of secrets; and URLs with a user name or a password. `galileo_labels` lists names that
    are labels on purpose.
    """
    declared = _declared(environ)
    for label in sorted(declared):
        if _is_own(label) or label in LABEL_SETTINGS:
            yield PREFIX + LABELS, Code.CONFLICT, f"{PREFIX}{label} is a setting: remove {label} from the list"
    for name, value in sorted(environ.items()):
        if value.strip() and (reason := _refusal(name, value, declared)):
            yield name, *reason


def _declared(environ: Mapping[str, str]) -> set[str]:
    return {label.strip() for label in environ.get(PREFIX + LABELS, "").split(",") if label.strip()}


def _is_own(name: str) -> bool:
    """Whether a name, without its prefix, is that of a setting which is not a label."""
    return name in OWN_SETTINGS or name.startswith(OWN_PREFIXES)


def _refusal(name: str, value: str, declared: set[str]) -> tuple[Code, str] | None:
    """Why a variable is refused, or None."""
    label = name.removeprefix(PREFIX)
    if _is_service_link(name, value):
        return None
    if name in _KNOWN:
        if label in SECRET_SETTINGS or not _CREDENTIALS.search(value):
            return None
        return Code.FORMAT, "must not be a URL with a user name or password; set these in variables of their own"
    may_be_label = name.startswith(PREFIX)
    if may_be_label and _CREDENTIALS.search(value):
        message = "is not a setting, and must not be a URL with a user name or password, as everyone can see labels"
        return Code.FORMAT, f"{message}; remove it ({_REDIS_SETTINGS})"
    if may_be_label and label in declared:
        return None
    remedy = f", or add {label} to {PREFIX}{LABELS} if it is a label" if may_be_label else ""
    if meant := _meant(name):
        return Code.UNKNOWN, f"is not a setting; did you mean {meant}? Correct or remove it{remedy}"
    if may_be_label and looks_secret(label.lower()):
        message = "is not a setting, and its name looks like that of a secret"
        return Code.UNKNOWN, f"{message}; remove it{remedy}, which everyone can see"
    return None


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has made the variable. Its names are upper case, and so never those of labels."""
    return name.isupper() and bool(_SERVICE_ADDRESS.fullmatch(value.strip()) or _SERVICE_LINK.fullmatch(name))


def looks_secret(label: str) -> bool:
    """Returns whether a name looks like that of a secret."""
    return any(part in label for part in _SECRET_PARTS) or not set(re.split("[_.-]", label)).isdisjoint(_SECRET_WORDS)


def _meant(name: str) -> str | None:
    """The setting whose name was probably meant, or None."""
    lower = name.lower()
    if lower in _KNOWN:
        return lower
    return min((known for known in _KNOWN if is_one_edit(lower, known)), default=None)


def is_one_edit(one: str, other: str) -> bool:
    """Returns whether two texts differ in one inserted, removed or replaced character, or in two that were swapped."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    same = next((index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(one), len(other)) if same is None else same
    rest, other_rest = one[same:], other[same:]
    return (
        rest[1:] == other_rest[1:]
        or rest == other_rest[1:]
        or rest[1:] == other_rest
        or (rest[:2] == other_rest[1::-1] and len(rest) > 1 and rest[2:] == other_rest[2:])
    )
