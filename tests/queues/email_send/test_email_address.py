"""What counts as an address, and in which form it goes on the wire."""

from __future__ import annotations

import pytest
from aiosmtplib.email import quote_address
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.queues.email_send.address import Mailbox, NotAnAddress, parse


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("dana@example.com", Mailbox("dana", "example.com")),
        ("  dana@example.com\n", Mailbox("dana", "example.com")),
        ("Dana Doe <dana@example.com>", Mailbox("dana", "example.com", "Dana Doe")),
        ("Dr. Dana <dana@example.com>", Mailbox("dana", "example.com", "Dr. Dana")),
        ('"Doe, \\"D\\"" < dana@example.com >', Mailbox("dana", "example.com", 'Doe, "D"')),
        ("山田　太郎 <y@example.jp>", Mailbox("y", "example.jp", "山田 太郎")),
        ("<dana@example.com>", Mailbox("dana", "example.com")),
        ("o'b!#$%&*+-/=?^_`{|}~@example.com", Mailbox("o'b!#$%&*+-/=?^_`{|}~", "example.com")),
        ("root@localhost", Mailbox("root", "localhost")),
        ("jürgen@example.com", Mailbox("jürgen", "example.com")),
        ("a@münchen.de", Mailbox("a", "xn--mnchen-3ya.de")),
        ("a@straße.de", Mailbox("a", "xn--strae-oqa.de")),
        ("a@[192.0.2.1]", Mailbox("a", "[192.0.2.1]")),
        ("a@[IPv6:2001:DB8::1]", Mailbox("a", "[IPv6:2001:db8::1]")),
        ("x" * 64 + "@example.com", Mailbox("x" * 64, "example.com")),
    ],
)
def test_address_is_read(text: str, mailbox: Mailbox) -> None:
    assert parse(text) == mailbox


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no @"),
        ("dana", "it has no @"),
        ("@example.com", "before the @ is malformed"),
        ("a..b@example.com", "before the @ is malformed"),
        (".a@example.com", "before the @ is malformed"),
        ("a b@example.com", "before the @ is malformed"),
        ("a@b@example.com", "before the @ is malformed"),
        ("a@x.org, b@x.org", "before the @ is malformed"),
        ("a(comment)@example.com", "before the @ is malformed"),
        ('"a b"@example.com', "a quoted local part is not supported"),
        ("x" * 65 + "@example.com", "longer than 64 bytes"),
        ("ü" * 33 + "@example.com", "longer than 64 bytes"),
        ("a@", "no domain name"),
        ("a@-x.org", "no domain name"),
        ("a@x_y.org", "no domain name"),
        ("a@x..org", "no domain name"),
        ("a@" + "x" * 64 + ".org", "no domain name"),
        ("a@" + "x." * 127 + "org", "no domain name"),
        ("a@ü\u200d.org", "invisible character"),
        ("a\u202ebc@example.com", "invisible character"),
        ("a@[192.0.2]", "no IP address"),
        ("a@[IPv6:zz]", "no IP address"),
        ("a@x.org\r\nRCPT TO:<b@x.org>", "control character"),
        ("a\x00@x.org", "control character"),
        ("\ud83d@x.org", "half a character"),
        ("eve@x.org <dana@x.org>", "a special character and no quotes"),
        ("Doe, Dana <dana@x.org>", "a special character and no quotes"),
        ("a" * 600 + "@x.org", "it has 606 characters"),
        ("a" * 60 + "@" + ".".join(["x" * 60] * 4), "longer than 254 bytes"),
    ],
)
def test_other_texts_are_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(NotAnAddress, match="not an e-mail address: ") as error:
        parse(text)
    assert why in str(error.value)


def test_case_tells_local_parts_apart_and_not_domains() -> None:
    assert parse("dana@Example.com").key == parse("Dana <dana@example.COM>").key
    assert parse("Dana@example.com").key != parse("dana@example.com").key


@settings(deadline=None)
@given(
    st.text(st.characters(), max_size=30)
    | st.builds("{}@{}".format, st.text("ab.üß-+'`%=?\"<>( @", max_size=12), st.text("xyzé-.[]:1ß", max_size=14))
)
def test_whatever_is_read_goes_on_the_wire_as_it_is(text: str) -> None:
    try:
        mailbox = parse(text)
    except NotAnAddress:
        return
    # aiosmtplib parses addresses once more, leniently: it must not make another one of ours.
    assert quote_address(mailbox.path) == f"<{mailbox.path}>"
    assert mailbox.path.isprintable() and " " not in mailbox.path
    assert mailbox.domain.isascii()
    assert parse(mailbox.path).key == mailbox.key
