"""One recipient or sender: `dana@example.com` or `Dana <dana@example.com>`, checked and in the form SMTP wants."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import idna

#: RFC 5321 §4.5.3.1: octets of a local part, of a domain, and of a path without its brackets.
LOCAL_OCTETS, DOMAIN_OCTETS, PATH_OCTETS = 64, 253, 254
#: Longest entry that is looked at: a name and a path.
ENTRY_CHARS = 512
#: Longest display name that is kept.
NAME_CHARS = 128

_NAMED = re.compile(r"([^<>]*)<([^<>]*)>")
# Line breaks among them, and lone surrogates.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# What a name holds between quotes only (RFC 5322 §3.2.3). A dot is common without them.
_SPECIALS = re.compile(r"[@,;:()\[\]\\\"]")
_ATOM_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~")
_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE
)


class NotAnAddress(ValueError):
    """The text is not an e-mail address."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not an e-mail address: {why}")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A checked address."""

    local: str
    domain: str
    """ASCII: an internationalised domain is in its A-label form (RFC 5890)."""
    name: str = ""
    """What stood before `<…>`; any text."""

    @property
    def path(self) -> str:
        """`local@domain`, as MAIL FROM and RCPT TO carry it."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can take it."""
        return not self.local.isascii()

    @property
    def key(self) -> tuple[str, str]:
        """Equal for two spellings of one mailbox: case matters in the local part alone (RFC 5321 §2.4)."""
        return self.local, self.domain.lower()


def parse(text: str) -> Mailbox:
    """Read an address with or without a display name.

    Quoted local parts are refused: RFC 5321 §4.1.2 tells hosts not to have such mailboxes.

    Raises:
        NotAnAddress: saying which part is wrong, without quoting it.
    """
    if len(text) > ENTRY_CHARS:
        raise NotAnAddress(f"it has {len(text)} characters")
    text = text.strip()
    if _CONTROLS.search(text):
        raise NotAnAddress("it has a control character or half a character")
    named = _NAMED.fullmatch(text)
    name, spec = (named[1], named[2].strip()) if named else ("", text)
    if not spec.isprintable():
        # Marks that hide or turn text around, and spaces of other kinds.
        raise NotAnAddress("it has an invisible character")
    local, at, domain = spec.rpartition("@")
    if not at:
        raise NotAnAddress("it has no @")
    mailbox = Mailbox(_checked_local(local), _checked_domain(domain), _display_name(name))
    if len(mailbox.path.encode()) > PATH_OCTETS:
        raise NotAnAddress(f"it is longer than {PATH_OCTETS} bytes")
    return mailbox


def _checked_local(local: str) -> str:
    if local.startswith('"'):
        raise NotAnAddress("a quoted local part is not supported")
    legal = all(c in _ATOM_CHARACTERS or ord(c) > 127 for c in local.replace(".", ""))
    if not legal or not all(local.split(".")):
        raise NotAnAddress("the part before the @ is malformed")
    if len(local.encode()) > LOCAL_OCTETS:
        raise NotAnAddress(f"the part before the @ is longer than {LOCAL_OCTETS} bytes")
    return local


def _checked_domain(domain: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        return _checked_literal(domain)
    if not domain.isascii():
        try:
            # IDNA 2008 and not Python's own codec: that one turns straße.de into strasse.de, someone else's domain.
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
        except UnicodeError:
            raise NotAnAddress("the part after the @ is no domain name") from None
    if len(domain) > DOMAIN_OCTETS or not _HOST.fullmatch(domain):
        raise NotAnAddress("the part after the @ is no domain name")
    return domain


def _checked_literal(literal: str) -> str:
    """RFC 5321 §4.1.3: [192.0.2.1] or [IPv6:2001:db8::1]."""
    inner = literal[1:-1]
    try:
        if inner.lower().startswith("ipv6:"):
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise NotAnAddress("the part after the @ is no IP address") from None


def _display_name(name: str) -> str:
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    elif _SPECIALS.search(name):
        raise NotAnAddress("the name before <…> has a special character and no quotes")
    return " ".join(name.split())[:NAME_CHARS]
