"""What must not be shown: values under secret keys, passwords in URLs, secrets in messages."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from config.tree import KeyPath

#: What stands in a secret's place.
MASK = "***"

_SECRET = re.compile(r"passw|passphrase|\bpwd\b|secret|token|key|dsn|credential|private", re.IGNORECASE)
# Numbers under such keys are mostly limits (`max_tokens: 4000`); under these they are PINs.
_SECRET_NUMBER = re.compile(r"passw|passphrase|secret|credential", re.IGNORECASE)
# From the first colon to the last @, since people forget to encode a / in a password or an @ in a user's name.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s:]*):(\S*)@")
_URL_QUERY = re.compile(r"([?&;]([^\s=&;#]+)=)([^\s&;#]+)")


def is_secret_name(name: str) -> bool:
    """Whether a key or a variable is called like a secret: password, secret, token, key, dsn, credential."""
    return _SECRET.search(name) is not None


def is_secret(path: KeyPath, value: Any = "") -> bool:
    """Whether the value at a path is a secret by the names on the way; those of queues and pools don't count, nor
    does the name of a file (`key_file`)."""
    if value is None:
        return False
    names = [key for key in path if isinstance(key, str) and not key.endswith("_file")]
    if names[:1] in (["queues"], ["pools"]):
        del names[1:2]
    pattern = _SECRET_NUMBER if isinstance(value, int | float) else _SECRET
    return any(pattern.search(name) for name in names)


def mask_url(text: str) -> str:
    """Mask passwords and secret query parameters in the URLs of a text."""
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    return _URL_QUERY.sub(lambda match: match[1] + (MASK if is_secret_name(match[2]) else match[3]), text)


def url_passwords(text: str) -> list[str]:
    """The passwords in the URLs of a text, as written and decoded."""
    found = [match[2] for match in _URL_PASSWORD.finditer(text) if match[2]]
    return found + [unquote(password) for password in found]


def scrub(message: str, secrets: dict[str, str]) -> str:
    """Replace every secret in a message by what may be said of it, the longest first."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message = message.replace(secret, secrets[secret])
    return message


def redact(value: Any, path: KeyPath) -> Any:
    """A value, scalar or container, with its secrets masked."""
    if isinstance(value, dict):
        return {key: redact(below, (*path, key)) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [redact(below, (*path, index)) for index, below in enumerate(value)]
    if is_secret(path, value) and value != "":
        return MASK
    return mask_url(value) if isinstance(value, str) else value
