"""Ids of experiments."""

import secrets
import string
from datetime import datetime

from django.db import IntegrityError, transaction

from experiments.models import Experiment

ID_ATTEMPTS = 20


def save_under_a_new_id(experiment: Experiment, now: datetime) -> None:
    """Saves a new experiment, within the caller's transaction."""
    for _ in range(ID_ATTEMPTS):
        experiment.id = new_id(now)
        try:
            with transaction.atomic():
                experiment.save(force_insert=True)
            return
        except IntegrityError:
            if not Experiment.objects.filter(id=experiment.id).exists():
                raise
    raise RuntimeError(f"no free experiment id was found in {ID_ATTEMPTS} attempts")


def new_id(now: datetime) -> str:
    """`YYYYMMDDHHMM-xxxx`: the minute and four random characters, as the original Galileo makes it."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d%H%M}-{''.join(secrets.choice(alphabet) for _ in range(4))}"
