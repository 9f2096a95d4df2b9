"""Ids of experiments."""

import re
import secrets
import string
from datetime import datetime

from django.db import IntegrityError, transaction

from experiments.models import Experiment

ID_ATTEMPTS = 20
# What addresses, file names and request ids can hold.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,23}")
# On PostgreSQL a partition of that name would be in the way of the traces' own index.
_RESERVED_IDS = frozenset({"pkey"})


class IdTaken(Exception):
    """There is an experiment of the asked id already, or its traces are; the message says so."""


def id_reason(value: str) -> str | None:
    """Why a text is no id of an experiment, or None; whether it is free is another matter."""
    if not _ID.fullmatch(value):
        return "up to 24 letters, digits and -, the first one no -, are needed"
    return "is reserved" if value in _RESERVED_IDS else None


def save_new(experiment: Experiment, asked_id: str | None = None) -> None:
    """Inserts the row under the asked id, or under one that is drawn until it is free, within the caller's transaction.

    Raises:
        IdTaken
    """
    for _ in range(ID_ATTEMPTS):
        experiment.id = asked_id or new_id(experiment.created)
        try:
            with transaction.atomic():
                experiment.save(force_insert=True)
            return
        except IntegrityError:
            if not Experiment.objects.filter(id=experiment.id).exists():
                raise
            if asked_id:
                raise IdTaken(f"there is an experiment {asked_id} already") from None
    raise RuntimeError(f"no free experiment id was found in {ID_ATTEMPTS} attempts")


def new_id(now: datetime) -> str:
    """`YYYYMMDDHHMM-xxxx`: the minute and four random characters, as the original Galileo makes it."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d%H%M}-{''.join(secrets.choice(alphabet) for _ in range(4))}"
