"""What can go wrong in the shell, as exceptions with a sentence."""


class ShellError(Exception):
    """The message says what is wrong, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class GroupFailed(ShellError):
    """A client group's clients failed, were lost, or are closed."""


class NotReady(ShellError):
    """Something did not happen in time."""


class Superseded(ShellError):
    """Another command took the place of the one that was waited for."""


class NoExperiment(ShellError):
    """No experiment was started here."""
