from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from config.document import MAX_FILE_BYTES, parse_document, read_document
from config.tree import find, plain


def issues(text: str) -> list[str]:
    return [str(issue) for issue in parse_document(text, "f.yaml")[1]]


def values(text: str) -> Any:
    tree, found = parse_document(text, "f.yaml")
    assert tree is not None
    assert found == []
    return plain(tree)


def test_values_keep_the_place_of_their_key() -> None:
    tree, _ = parse_document("queues:\n  email-send:\n    over: [a, b]\n", "f.yaml")
    assert tree is not None
    node = find(tree, ("queues", "email-send", "over"))
    item = find(tree, ("queues", "email-send", "over", 1))
    assert node is not None
    assert item is not None
    assert str(node.origin) == "f.yaml:3:5"
    assert str(item.origin) == "f.yaml:3:15"


def test_yaml_1_2_takes_no_for_a_text_and_dates_for_texts() -> None:
    text = "{a: no, b: 010, c: 0o17, d: 2001-01-01, e: 1:30, f: 1e3, g: ~, h: true, i: '5', j: 24h/5000}"
    assert values(text) == {
        "a": "no",
        "b": 10,
        "c": 15,
        "d": "2001-01-01",
        "e": "1:30",
        "f": 1000.0,
        "g": None,
        "h": True,
        "i": "5",
        "j": "24h/5000",
    }


def test_aliases_and_merge_keys_are_written_out() -> None:
    text = "base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: {<<: [*base, {c: 4, a: 9}]}\n"
    assert values(text) == {"base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 3}, "two": {"a": 1, "b": 2, "c": 4}}


def test_anchor_may_be_used_again() -> None:
    assert values("a: &x 1\nb: &x 2\nc: *x\n") == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml: expected a mapping of settings, found an empty file"),
        ("# nothing\n", "f.yaml: expected a mapping of settings, found an empty file"),
        ("a:\n\tb: 1", "f.yaml:2:1: not YAML: a tab can't indent YAML; use spaces"),
        ("a: 1\nb: [1", "f.yaml:2:6: not YAML: while parsing a flow sequence: expected ',' or ']'"),
        ("a: 'x", "f.yaml:1:6: not YAML: while scanning a quoted scalar: found unexpected end of stream"),
        ("a: *x", "f.yaml:1:4: not YAML: found undefined alias 'x'"),
        ("a: b: c", "f.yaml:1:5: not YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: not YAML: expected one document, found another one"),
        ("a: 1\nb: \x00", "f.yaml:2:4: a control character can't stand in YAML"),
        ("a: 1\na: 2", "f.yaml:2:1: a: duplicate key; first written at line 1"),
        ("a: {5: x}", "f.yaml:1:5: a: expected a text as key; write it in quotes: '5'"),
        ("? [a]\n: b", "f.yaml:1:3: expected a text as key"),
        ("a: !!python/object:os.system x", "f.yaml:1:1: a: the tag 'tag:yaml.org,2002:python/object:os.system' is not"),
        ("a: !secret x", "f.yaml:1:1: a: the tag '!secret' is not known; plain values only"),
        ("a: .inf", "f.yaml:1:1: a: expected a number below 2^63, found '.inf'"),
        ("a: 1e999", "f.yaml:1:1: a: expected a number below 2^63, found '1e999'"),
        ("a: " + "9" * 5000, "f.yaml:1:1: a: expected a number below 2^63, found '999"),
        ("password: 99999999999999999999", "f.yaml:1:1: password: expected a number below 2^63, found a value that"),
        ('a: "\\ud800"', "f.yaml:1:1: a: expected text, found half a surrogate pair"),
        ("a: &a [*a]", "f.yaml:1:4: a[0]: an alias that contains itself"),
        ("a: {<<: 5}", "f.yaml:1:9: a.'<<': expected an alias of a mapping"),
        ("[" * 1200, "f.yaml: nested more than 30 levels deep"),
        ("a: " + "[" * 40 + "]" * 40, "nested more than 30 levels deep"),
    ],
)
def test_bad_yaml_is_one_clear_issue(text: str, message: str) -> None:
    found = issues(text)
    assert len(found) == 1, found
    assert message in found[0]


def test_every_duplicate_is_told_and_the_first_value_stays() -> None:
    tree, found = parse_document("a: 1\na: 2\nb: {c: 1, c: 2}\n", "f.yaml")
    assert tree is not None
    assert plain(tree) == {"a": 1, "b": {"c": 1}}
    assert [issue.path for issue in found] == ["a", "b.c"]


def test_alias_bomb_stops_at_its_limit() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    tree, found = parse_document("\n".join(lines), "f.yaml")
    assert tree is None
    assert [issue.message for issue in found] == ["more than 20000 values, aliases written out"]


def test_unreadable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    def issue(path: Path) -> str:
        tree, found = read_document(path, "f.yaml")
        assert tree is None
        (only,) = found
        return str(only)

    assert issue(tmp_path / "absent.yaml") == f"f.yaml: can't read '{tmp_path}/absent.yaml': No such file or directory"
    assert issue(tmp_path) == f"f.yaml: can't read '{tmp_path}': not a regular file"
    assert "can't read" in issue(Path("a\0b"))
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in issue(tmp_path / "pipe")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert issue(large) == "f.yaml: expected a file of at most 1 MB, found a larger one"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    assert issue(latin) == "f.yaml:2:7: expected UTF-8 text"


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    tree, found = read_document(path, "w.yaml")
    assert tree is not None
    assert plain(tree) == {"a": 1, "b": 2}
    assert found == []


@given(st.text(max_size=60))
def test_any_text_is_a_tree_or_an_issue(text: str) -> None:
    tree, found = parse_document(text, "f.yaml")
    assert tree is not None or found


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.text(st.characters(codec="ascii", categories=["L", "N"])),
        lambda below: (
            st.lists(below, max_size=3)
            | st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), below, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_written_yaml_reads_back(value: Any) -> None:
    stream = StringIO()
    YAML(typ="safe", pure=True).dump({"root": value}, stream)
    assert values(stream.getvalue()) == {"root": value}
