"""Certificates for tests, made by openssl: an authority, and what it signed.  Keys are new in each run."""

import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popular.net.tls.context import KeyPair, read_certificate, server_context

_KINDS = {"ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["-newkey", "rsa:2048"]}

# Clients of Python 3.13 are strict (RFC 5280).
_STRICT = "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates into one folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """Make a new authority."""
        _openssl("req", "-x509", *_KINDS["ecdsa"], "-nodes", "-days", "30", "-subj", "/CN=Test authority",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", folder / "ca.key",
                 "-out", folder / "ca.pem")
        return cls(folder)

    @property
    def cafile(self) -> str:
        """The authority's own certificate."""
        return str(self.folder / "ca.pem")

    def sign(self, *names: str, kind: str = "ecdsa", days: int = 30, stem: str = "") -> KeyPair:
        """Return a new certificate for some DNS names or IPv4 addresses, valid for `days` from now; 0: over."""
        stem = stem or f"{names[0].replace('*', 'any')}-{kind}"
        key, request, certificate, extensions = (self.folder / f"{stem}.{end}" for end in ("key", "csr", "pem", "ext"))
        _openssl("req", *_KINDS[kind], "-nodes", "-subj", f"/CN={names[0]}", "-keyout", key, "-out", request)
        alternatives = ",".join(f"{'IP' if name.replace('.', '').isdigit() else 'DNS'}:{name}" for name in names)
        extensions.write_text(f"subjectAltName={alternatives}\n{_STRICT}")
        _openssl("x509", "-req", "-in", request, "-CA", self.cafile, "-CAkey", self.folder / "ca.key",
                 "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", certificate)
        return KeyPair(str(certificate), str(key))


def context_of(authority: Authority) -> ssl.SSLContext:
    """Return what a client trusts the authority with that connects to an address, not a name."""
    context = ssl.create_default_context(cafile=authority.cafile)
    context.check_hostname = False
    return context


def server_of(pairs: Sequence[KeyPair], tlsmin: str = "1.2", clientca: str = "") -> ssl.SSLContext:
    """Return the context of a server with these certificates; raises StartError."""
    return server_context([read_certificate(pair) for pair in pairs], tlsmin, clientca=clientca)


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
