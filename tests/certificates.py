"""Throw-away certificates, made by openssl for one test run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.conftest import need

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
_AUTHORITY = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run([need("openssl"), *map(str, arguments)], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()


class Authority:
    """Signs certificates; its own is `ca`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = directory / f"{name}.key"
        self.ca = directory / f"{name}.pem"
        out = ("-keyout", self._key, "-out", self.ca)
        _openssl("req", "-x509", *_KEY, "-nodes", *out, "-days", "2", "-subj", f"/CN=Test {name}", *_AUTHORITY)

    def issue(self, name: str, alternative: str = "DNS:localhost", *, days: int = 1) -> tuple[Path, Path]:
        """A certificate and its key.

        Args:
            name: of the files and of the subject.
            alternative: the names it is for, as openssl writes them.
            days: how long it is valid; negative: it has expired.
        """
        key, request, certificate, names = (self._directory / f"{name}.{kind}" for kind in ("key", "csr", "pem", "ext"))
        _openssl("req", *_KEY, "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        names.write_text(f"subjectAltName={alternative}\n")
        signer = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *signer, "-out", certificate, "-days", str(days), "-extfile", names)
        return certificate, key

    def encrypt(self, key: Path, password: str) -> Path:
        """The same key behind a password."""
        locked = key.with_suffix(".locked")
        _openssl("pkey", "-in", key, "-aes256", "-passout", f"pass:{password}", "-out", locked)
        return locked
