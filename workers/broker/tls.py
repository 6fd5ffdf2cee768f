"""TLS to Redis: whom we believe, and who we are. Nothing falls back to less than what is asked for."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

from workers.broker.address import EndpointError

#: A plain server takes a TLS greeting for the beginning of a command: it waits for its end, or complains.
NOT_TLS = "no TLS is spoken on this port, write redis:// or take the server's TLS port"
# X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH; …_CERT_NOT_YET_VALID, …_CERT_HAS_EXPIRED (openssl/x509_vfy.h)
_NAME_MISMATCH = (62, 64)
_EXPIRED = (9, 10)
_OTHER_SPEECH = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The files are read again when they have changed, so that a renewed certificate needs no restart.

    Args:
        ca_file: PEM of the authorities that may have signed the server's certificate. None: those of the system.
        cert_file: PEM of our own certificate, for servers that ask for one.
        key_file: PEM of its key, not encrypted. None: it is in `cert_file`.
        verify: false believes whoever answers.
        server_name: what the server's certificate must be for. None: the host that we connect to.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    server_name: str | None = None
    _made: dict[tuple[int, ...], ssl.SSLContext] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def is_set(self) -> bool:
        """Whether anything differs from the defaults."""
        return self != Tls()

    def check(self) -> None:
        """Read the files once.

        Raises:
            EndpointError: one of them can't be used; names the field.
        """
        if self.key_file and not self.cert_file:
            raise EndpointError("tls.key_file", "a key needs its certificate: set redis.tls.cert_file too")
        self.context()

    def context(self) -> ssl.SSLContext:
        """The context for a new connection.

        Raises:
            EndpointError: a file can't be used.
        """
        stamp = tuple(_changed(name, file) for name, file in self._files() if file)
        if stamp not in self._made:
            self._made.clear()
            self._made[stamp] = self._make()
        return self._made[stamp]

    def _files(self) -> tuple[tuple[str, str | None], ...]:
        return ("ca_file", self.ca_file), ("cert_file", self.cert_file), ("key_file", self.key_file)

    def _make(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (ssl.SSLError, OSError) as error:
            raise EndpointError("tls.ca_file", f"no certificates in PEM form there ({_reason(error)})") from None
        if self.cert_file:
            try:
                # An encrypted key would be asked for on the terminal; an empty password fails instead.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (ssl.SSLError, OSError, ValueError) as error:
                raise EndpointError(
                    "tls.cert_file",
                    f"no certificate with its unencrypted key, in PEM form, there or in redis.tls.key_file "
                    f"({_reason(error)})",
                ) from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def explain(error: ssl.SSLError, tls: Tls) -> str:
    """Why a handshake failed, and what to do about it."""
    reason = _reason(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_MISMATCH:
            return f"{reason} If another name is right, set redis.tls.server_name"
        if error.verify_code in _EXPIRED:
            return f"{reason}: renew the server's certificate"
        known = f"is not in {tls.ca_file}" if tls.ca_file else "is not one of the system's"
        return f"{reason}: its authority {known}; set redis.tls.ca_file to the authority's certificate"
    if error.reason in _OTHER_SPEECH:
        return f"{reason}: {NOT_TLS} (redis.url)"
    return f"{reason} (redis.tls)"


def _changed(name: str, file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError as error:
        raise EndpointError(f"tls.{name}", f"{file} can't be read: {error.strerror}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)
