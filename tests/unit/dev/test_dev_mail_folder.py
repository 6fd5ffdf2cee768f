from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.dev.catcher import Refusals
from workers.dev.mail_folder import MailFolder


@given(
    content=st.binary(max_size=300),
    message_id=st.text(max_size=80),
    sender=st.text(max_size=40),
    recipients=st.lists(st.text(max_size=40), max_size=3),
)
def test_no_message_escapes_its_folder_or_its_envelope(
    content: bytes, message_id: str, sender: str, recipients: list[str]
) -> None:
    raw = b"Message-ID: " + message_id.encode() + b"\r\n" + content
    with tempfile.TemporaryDirectory() as name:
        folder = MailFolder(Path(name), keep=1)
        folder.open()
        mail = folder.store(raw, sender, recipients)
        assert [path for path in Path(name).rglob("*") if path != mail.path] == []
        stored = mail.path.read_bytes()
        assert stored.endswith(raw)
        envelope = stored.removesuffix(raw).split(b"\r\n")
        folds = max(0, len(recipients) - 1)
        assert len(envelope) == 2 + folds + 1
        assert all(line.startswith((b"X-MailFrom: ", b"X-RcptTo: ", b" ")) for line in envelope[:-1])


@pytest.mark.parametrize(
    ("recipient", "replies"),
    [
        ("dana@example.com", [None, None]),
        ("bounce-3@example.com", [550, 550]),
        ("Dana.BOUNCE@example.com", [550, 550]),
        ("retry-3@example.com", [451, None]),
        ("dana@retry.example.com", [None, None]),
        ("dana@bounce.example.com", [None, None]),
        ("bounce", [None, None]),
    ],
)
def test_local_part_decides_the_refusal(recipient: str, replies: list[int | None]) -> None:
    refusals = Refusals()
    given_replies = [refusals.reply(recipient) for _ in replies]
    assert [int(reply[:3]) if reply else None for reply in given_replies] == replies


def test_each_address_is_put_off_for_itself() -> None:
    refusals = Refusals()
    assert refusals.reply("retry-1@example.com") is not None
    assert refusals.reply("retry-2@example.com") is not None
    assert refusals.reply("retry-1@example.com") is None


def test_random_share_is_about_what_was_asked_and_repeatable() -> None:
    def draw() -> list[bool]:
        refusals = Refusals(0.05, seed=7)
        return [refusals.reply("dana@example.com") is not None for _ in range(2000)]

    assert draw() == draw()
    assert 60 <= sum(draw()) <= 140


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Refusals(share)


def test_remembered_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.dev.catcher.REMEMBERED", 2)
    refusals = Refusals()
    for number in range(3):
        refusals.reply(f"retry-{number}@example.com")
    assert refusals.reply("retry-2@example.com") is None
    assert refusals.reply("retry-0@example.com") is not None
