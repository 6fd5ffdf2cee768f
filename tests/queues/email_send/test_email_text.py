"""Texts made harmless, and plain text out of HTML that wants to blow up."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.queues.email_send import text


@pytest.mark.parametrize(
    ("html", "plain"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("one<br>two", "one\ntwo"),
        ("<ul><li>a<li>b</ul>", "  * a\n  * b"),
        ("<table><tr><td>Item</td><td>Price</td></tr><tr><td>Nut</td><td>3</td></tr></table>", "Item Price\nNut 3"),
        ("<TABLE><TR><TD style='padding:9px'>x", "x"),
        ("Fish &amp; chips", "Fish & chips"),
        ("<script>bad()</script><style>p{}</style><!-- no -->yes", "yes"),
        ("", ""),
    ],
)
def test_plain_text_of_html(html: str, plain: str) -> None:
    assert text.from_html(html) == plain


def wide(unit: str) -> str:
    return (unit * (text.HTML_CHARS // len(unit) + 1))[: text.HTML_CHARS]


@pytest.mark.parametrize(
    "html",
    [
        "<table><tr><td>" + "x" * 100_000 + "</td></tr>" + "<tr><td>a</td></tr>" * 5_000,
        wide("<p style='padding-left:99999px'>x</p>"),
        wide("<p STYLE\n=\n'margin-left:9999em'>x</p>"),
        wide("<td <td"),
        wide("style   "),
        wide("<blockquote>"),
        wide("<"),
        "<ul>" * 240 + wide("<li>a")[:190_000],
    ],
)
def test_html_that_asks_for_much_gets_little(html: str) -> None:
    assert len(text.from_html(html)) <= text.DERIVED_CHARS


def test_styles_and_tables_never_reach_the_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def render(html: str, *_: Any) -> str:
        seen.append(html)
        return "y" * 999_999

    monkeypatch.setattr(text, "get_text", render)
    derived = text.from_html("<Table a=1><tr/><TD\tstyle = 'x'></td><th>h</th></TABLE><tdx><caption>c")
    assert seen == ["<div a=1><div/> <span\tdata-style = 'x'> </span> <span>h </span></div><tdx><div>c"]
    assert len(derived) == text.DERIVED_CHARS


def test_html_beyond_the_limit_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text.from_html("x" * text.HTML_CHARS) != ""
    assert text.from_html("x" * (text.HTML_CHARS + 1)) == ""


def test_failing_renderer_costs_the_derived_text_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> str:
        raise ValueError("confidential content")

    monkeypatch.setattr(text, "get_text", fail)
    with caplog.at_level(logging.WARNING):
        assert text.from_html("<p>x") == ""
    assert "ValueError" in caplog.text
    assert "confidential" not in caplog.text


@settings(deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_any_text_becomes_harmless(value: str) -> None:
    line = text.line(value)
    assert line.isprintable() and line == line.strip()
    text.body(value).encode("utf-8")
    assert "\x00" not in text.body(value)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["<p>", "</p>", "<td", ">", "<", "a", "<?xml encoding='x'?>", "<!DOCTYPE", "&#0;", "\x00"])
    )
)
def test_any_html_gives_some_text(pieces: list[str]) -> None:
    assert isinstance(text.from_html("".join(pieces)), str)
