"""Texts for mails: what a hostile or careless producer put in is made harmless; plain text is derived from HTML."""

from __future__ import annotations

import logging
import re

from inscriptis import get_text  # type: ignore[import-untyped]
from inscriptis.css_profiles import CSS_PROFILES  # type: ignore[import-untyped]
from inscriptis.model.config import ParserConfig  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

#: Longest HTML that plain text is derived from; twice what the large providers show of a mail.
HTML_CHARS = 200_000
#: Longest plain text that is derived.
DERIVED_CHARS = 200_000
#: Longest subject; what is beyond is cut. RFC 5322 §2.1.1 allows a line of 998 octets.
SUBJECT_CHARS = 900

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_TABLE = re.compile(r"<(/?)(?:table|thead|tbody|tfoot|tr|caption)\b", re.IGNORECASE)
_CELL = re.compile(r"<(/?)(?:td|th)\b", re.IGNORECASE)
_STYLE = re.compile(r"style(?=\s*=)", re.IGNORECASE)
# strict: what browsers do; the other profile indents every <div>.
_LAYOUT = ParserConfig(css=CSS_PROFILES["strict"], display_links=True)


def body(text: str) -> str:
    """Text for a body: control characters out, halves of surrogate pairs replaced (JavaScript cuts emoji in two)."""
    return _LONE_SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def line(text: str) -> str:
    """Text for a header: one line, so that nobody adds headers of their own (RFC 5322 §2.2)."""
    text = _LONE_SURROGATES.sub("\ufffd", text[:SUBJECT_CHARS])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def from_html(html: str) -> str:
    """The plain text of an HTML mail, links as `[text](address)`; empty where none can be derived.

    Tables, which mails use for layout, are read as blocks, and styles are not looked at: with them a few
    kilobytes of HTML can ask for gigabytes of padding.
    """
    if len(html) > HTML_CHARS:
        return ""
    plain = _STYLE.sub("data-style", _CELL.sub(r" <\1span", _TABLE.sub(r"<\1div", html)))
    try:
        derived: str = get_text(plain, _LAYOUT)
    except Exception as error:
        # The parser meets whatever users wrote. Without its text the mail is still complete.
        log.warning("no plain text derived from a mail's HTML: %s", type(error).__name__)
        return ""
    return derived[:DERIVED_CHARS].rstrip().lstrip("\n")
