"""AppInvalid: the refusal of a client app."""

from __future__ import annotations

from routing.errors import InvalidInput


class AppInvalid(InvalidInput):
    """A client app, or its archive, breaks the rules; nothing was stored.

    A path is a member of the archive, with the key where there is one: `manifest.yml: parameters.size.minimum`.
    """
