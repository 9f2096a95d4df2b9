"""TLS contexts as `requests` sets them up, from its certificate bundle and the keywords `verify` and `cert`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context


@dataclass(frozen=True, slots=True, eq=False)
class TlsOptions:
    """How a server's certificate is checked, and the client's own one. Equal options are one object (see `options`).

    Attributes:
        verify: True for the bundle of `requests`, False for no check at all, or the path of a bundle or folder.
        cert: path of the client's certificate (with its key), or the paths of both.
    """

    verify: bool | str = True
    cert: str | tuple[str, str] | None = None


def options(verify: bool | str = True, cert: str | tuple[str, str] | None = None) -> TlsOptions:
    """Returns the one object for these options: connections with the same object may be shared."""
    return _options(verify, cert)


@cache
def _options(verify: bool | str, cert: str | tuple[str, str] | None) -> TlsOptions:
    return TlsOptions(verify, cert)


@cache
def context(chosen: TlsOptions) -> ssl.SSLContext:
    """Returns the context of all connections with these options; cached, as reading the bundle takes about 20 ms.

    Sessions are not resumed, as in `requests`: resumption would save the target work that real clients cause.

    Raises:
        OSError: a file is missing or invalid; the message names the keyword.
    """
    made = create_urllib3_context(cert_reqs=ssl.CERT_NONE if chosen.verify is False else ssl.CERT_REQUIRED)
    made.set_alpn_protocols(["http/1.1"])
    if chosen.verify is not False:
        bundle = Path(DEFAULT_CA_BUNDLE_PATH if chosen.verify is True else chosen.verify)
        try:
            if bundle.is_dir():
                made.load_verify_locations(capath=str(bundle))
            else:
                made.load_verify_locations(cafile=str(bundle))
        except OSError as error:
            raise OSError(f"verify: {bundle} is not a bundle of certificates: {error}") from error
    if chosen.cert is not None:
        file, key = (chosen.cert, None) if isinstance(chosen.cert, str) else chosen.cert
        try:
            # Without a password, OpenSSL would ask for one at the terminal.
            made.load_cert_chain(file, key, password="")
        except OSError as error:
            raise OSError(f"cert: {file} cannot be used: {error}") from error
    return made
