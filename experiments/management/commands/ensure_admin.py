"""`manage.py ensure_admin`: creates or updates the administrator, with the password from the environment."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from experiments.management.arguments import InputCommand
from loadgen.protocol.settings import Reader
from routing.errors import Code

MIN_PASSWORD_LENGTH = 12


class Command(InputCommand):
    help = (
        "Creates or updates the administrator galileo_admin_user (default admin) "
        "with the password galileo_admin_password."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        reader = Reader(os.environ)
        name, email = reader.text("admin_user", "admin"), reader.text("admin_email")
        password = reader.text("admin_password")
        if len(password) < MIN_PASSWORD_LENGTH:
            reader.wrong("admin_password", Code.RANGE, f"must have at least {MIN_PASSWORD_LENGTH} characters")
        users = get_user_model()
        try:
            users._meta.get_field("username").run_validators(name)
        except ValidationError as error:
            reader.wrong("admin_user", Code.FORMAT, " ".join(error.messages))
        reader.raise_if_wrong()
        user, created = users.objects.get_or_create(username=name)
        user.is_staff = user.is_superuser = user.is_active = True
        if email:
            user.email = email
        if not user.check_password(password):  # a new hash would end all sessions of the user
            user.set_password(password)
        user.save()
        self.stdout.write(f"the administrator {name} is {'created' if created else 'up to date'}")
