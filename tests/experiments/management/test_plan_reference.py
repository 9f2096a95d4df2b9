"""`manage.py plan_reference`: the tables of docs/plans.md are those of the models."""

import pytest
from django.core.management import CommandError, call_command

from experiments.management.commands import plan_reference


def test_document_has_the_tables_of_the_models() -> None:
    call_command("plan_reference", "--check")


def test_document_that_differs_is_refused_then_mended(tmp_path, monkeypatch) -> None:
    document = tmp_path / plan_reference.DOCUMENT
    document.parent.mkdir()
    document.write_text("<!-- keys: plan -->\nold\n<!-- end of keys -->\n")
    monkeypatch.setattr(plan_reference, "_ROOT", tmp_path)

    with pytest.raises(CommandError):
        call_command("plan_reference", "--check")
    call_command("plan_reference")
    call_command("plan_reference", "--check")

    text = document.read_text()
    assert "\nold\n" not in text
    assert "| `configuration.duration` |" in text
