"""A certificate authority for tests, with a server's and a client's certificate, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files. The server's certificate is for localhost and 127.0.0.1, not for 127.0.0.2."""

    authority: Path
    server: Path
    server_key: Path
    client: Path  # with its key

    def server_context(self, client_needed: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if client_needed:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a client hears of it only after the handshake
        return context


def make_certificates(folder: Path) -> Certificates:
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    new_key = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    _openssl(
        *new_key, "-subj", "/CN=authority of a test", "-keyout", str(authority_key), "-out", str(authority),
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    signed = ("-CA", str(authority), "-CAkey", str(authority_key), "-addext", "basicConstraints=critical,CA:FALSE")
    server, server_key, client = folder / "server.pem", folder / "server.key", folder / "client.pem"
    _openssl(
        *new_key, *signed, "-subj", "/CN=server", "-keyout", str(server_key), "-out", str(server),
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
    )  # fmt: skip
    _openssl(*new_key, *signed, "-subj", "/CN=client", "-keyout", str(folder / "client.key"), "-out", str(client))
    client.write_bytes(client.read_bytes() + (folder / "client.key").read_bytes())
    return Certificates(authority, server, server_key, client)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
