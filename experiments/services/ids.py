"""Ids of experiments."""

import secrets
import string
from datetime import datetime

from django.db import IntegrityError, transaction

from experiments.models import Experiment
from routing.errors import Conflict

ID_ATTEMPTS = 20


class IdTaken(Conflict):
    """There is an experiment of the asked id already, or its traces are; the message says so."""


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
