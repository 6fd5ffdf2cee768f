from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.document import parse_document
from config.errors import ConfigIssue
from config.interpolation import MAX_SECRET_BYTES, InterpolationError, fill, interpolate
from config.tree import find, plain

NAMES = st.text(string.ascii_uppercase, min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("template", "env", "text"),
    [
        ("plain", {}, "plain"),
        ("${A}", {"A": "1"}, "1"),
        ("x${A}y${B}z", {"A": "1", "B": "2"}, "x1y2z"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-d}", {"A": "1"}, "1"),
        ("${A:-}", {}, ""),
        ("${A}", {"A": ""}, ""),
        ("${A:-x y: z}", {}, "x y: z"),
        ("${A:-${B:-${C}}}", {"C": "3"}, "3"),
        ("${A:-<${B}>}|${C}", {"B": "2", "C": "3"}, "<2>|3"),
        ("$${A}", {}, "${A}"),
        ("$$${A}", {"A": "1"}, "$${A}"),
        ("${A:-$${B}", {}, "${B"),
        ("$A {A} $ $$ }", {"A": "1"}, "$A {A} $ $$ }"),
        ("${A}", {"A": "${B}", "B": "no"}, "${B}"),
        ("${A}", {"A": "a: 1\nb: [2]"}, "a: 1\nb: [2]"),
        ("${A}", {"A_FILE": ""} | {"A": "1"}, "1"),
    ],
)
def test_variables_are_filled(template: str, env: dict[str, str], text: str) -> None:
    assert fill(template, env)[0] == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${A}", "${A} is not set; set A or A_FILE, or give a default: ${A:-…}"),
        ("${A:-${B}}", "${B} is not set"),
        ("${", "expected a variable's name after ${; write $${ for a plain ${"),
        ("${}", "expected a variable's name after ${"),
        ("${1A}", "expected a variable's name after ${"),
        ("${A", "expected ${A} or ${A:-default}"),
        ("${A-d}", "expected ${A} or ${A:-default}"),
        ("${A:d}", "expected ${A} or ${A:-default}"),
        ("${A:-d", "expected } to close ${; write $${ for a plain ${"),
        ("${A:-" * 10_000, "${…} nested more than 8 deep"),
    ],
)
def test_what_cannot_be_filled_is_explained(template: str, message: str) -> None:
    with pytest.raises(InterpolationError) as caught:
        fill(template, {})
    assert message in str(caught.value)


def test_default_that_is_not_needed_is_not_filled() -> None:
    assert fill("${A:-${UNSET}}", {"A": "1"})[0] == "1"


def test_secret_comes_from_the_file_that_its_variable_names(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"hunter2 \r\n")
    text, how = fill("smtp://me:${PW}@host", {"PW_FILE": str(secret)})
    assert text == "smtp://me:hunter2 @host"
    assert how.shown == "smtp://me:***@host"
    assert how.hides
    assert how.variables == ("PW_FILE",)
    assert fill("${PW}", {"PW_FILE": str(secret), "PW": ""})[0] == "hunter2 "
    assert fill("${PW}", {"PW_FILE": str(secret), "PW": "direct"})[0] == "direct"
    assert fill("${PW:-d}", {"PW_FILE": str(secret)})[0] == "hunter2 "


def test_only_the_last_line_end_of_a_secret_is_dropped(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"a\n\n")
    assert fill("${S}", {"S_FILE": str(secret)})[0] == "a\n"


def test_unreadable_secret_file_is_named_with_the_reason(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(InterpolationError) as caught:
            fill("${PW}", {"PW_FILE": str(path)})
        return str(caught.value)

    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "no") == f"PW_FILE names '{tmp_path}/no', which can't be read: No such file or directory"
    assert message(tmp_path).endswith("not a regular file")
    assert message(tmp_path / "pipe").endswith("not a regular file")
    assert message(tmp_path / "large").endswith("larger than 65536 bytes")
    assert message(tmp_path / "binary").endswith("not UTF-8 text")


def test_environment_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InterpolationError, match="A does not hold UTF-8 text"):
        fill("${A}", {"A": "caf\udce9"})


def test_value_of_a_secrets_variable_is_masked_and_another_is_shown() -> None:
    text, how = fill("${USER}:${SMTP_PASSWORD}", {"USER": "me", "SMTP_PASSWORD": "hunter2"})
    assert text == "me:hunter2"
    assert how.shown == "me:***"
    assert how.secrets == ("me", "hunter2")


def test_only_values_of_files_are_filled_never_keys() -> None:
    tree, _ = parse_document('"${A}": ["${A}", 5, "${B}"]\n', "f.yaml")
    assert tree is not None
    issues: list[ConfigIssue] = []
    filled = interpolate(tree, {"A": "1"}, issues.append)
    assert plain(filled) == {"${A}": ["1", 5, "${B}"]}
    assert [str(issue) for issue in issues] == [
        "f.yaml:1:21: '${A}'[2]: ${B} is not set; set B or B_FILE, or give a default: ${B:-…}"
    ]
    node = find(filled, ("${A}", 0))
    assert node is not None
    assert node.filled is not None
    assert node.filled.variables == ("A",)


@given(st.text(max_size=40), st.dictionaries(NAMES, st.text(max_size=5), max_size=3))
def test_any_text_is_filled_or_refused(template: str, env: dict[str, str]) -> None:
    try:
        text, _ = fill(template, env)
    except InterpolationError:
        return
    if "${" not in template:
        assert text == template


@given(st.text(max_size=20), st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_value_is_taken_as_it_is(before: str, value: str, after: str) -> None:
    escaped = [part.replace("${", "$${") for part in (before, after)]
    if before.endswith("$"):
        return
    text, how = fill(f"{escaped[0]}${{A}}{escaped[1]}", {"A": value})
    assert text == before + value + after
    assert how.variables == ("A",)


@given(st.text(max_size=30))
def test_escaped_text_is_itself(text: str) -> None:
    assert fill(text.replace("${", "$${"), {})[0] == text
