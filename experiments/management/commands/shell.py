"""`manage.py shell`: the controller shell, with Galileo's objects and the models."""

from __future__ import annotations

import code
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import shell

from experiments.shell.commands import BANNER
from experiments.shell.errors import WITHOUT_TRACEBACK

PROMPT = "galileo> "


class Command(shell.Command):
    help = (
        "Starts the controller shell with g, show, exp, rtbl, telemd and Django's models, in IPython or Python's own "
        "shell. Code on the standard input is executed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--source", metavar="FILE", help="run a script with the shell's objects, and exit")

    def handle(self, **options: Any) -> None:
        if source := options.get("source"):
            try:
                options["command"] = Path(source).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise CommandError(f"--source: {source} cannot be read: {error}") from error
        options["verbosity"] -= 1  # at verbosity 1, Django would list the imported models
        super().handle(**options)

    def get_auto_imports(self) -> list[str]:
        from experiments.shell import __all__ as names

        return [*(super().get_auto_imports() or []), *(f"experiments.shell.{name}" for name in names)]

    def ipython(self, options: dict[str, Any]) -> None:
        if find_spec("IPython") is None:
            raise ImportError("IPython")  # Django then tries the next kind of shell
        from IPython.terminal.embed import InteractiveShellEmbed
        from traitlets.config import Config

        config = Config()
        config.TerminalInteractiveShell.prompts_class = _prompts()
        config.TerminalInteractiveShell.term_title = False
        config.TerminalInteractiveShell.enable_tip = False
        config.TerminalInteractiveShell.confirm_exit = False
        namespace = self.get_namespace(**options)
        terminal = InteractiveShellEmbed(config=config, banner1=BANNER, user_ns=namespace)  # type: ignore[no-untyped-call]
        terminal.set_custom_exc(WITHOUT_TRACEBACK, _show_message)  # type: ignore[no-untyped-call]
        terminal()

    def python(self, options: dict[str, Any]) -> None:
        before, sys.ps1 = getattr(sys, "ps1", None), PROMPT
        try:
            code.interact(banner=BANNER, local=self.get_namespace(**options), exitmsg="")
        finally:
            sys.ps1 = before


def _show_message(terminal: Any, kind: type[Exception], error: Exception, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"{kind.__name__}: {error}\n")


def _prompts() -> type:
    from IPython.terminal.prompts import Prompts
    from pygments.token import Token

    class GalileoPrompts(Prompts):
        def in_prompt_tokens(self) -> list[tuple[Any, str]]:
            return [(Token.Prompt, PROMPT)]

        def continuation_prompt_tokens(self, *_: Any, **__: Any) -> list[tuple[Any, str]]:
            return [(Token.Prompt, " " * len(PROMPT))]

        def out_prompt_tokens(self) -> list[tuple[Any, str]]:
            return []

    return GalileoPrompts
