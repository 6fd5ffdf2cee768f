"""`fleet workers` against servers that are fleets, and some that are not."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.conftest import free_port
from workers.cli import workers, workers_source
from workers.cli.commands import app
from workers.cli.workers_source import SourceError, ask
from workers.cli.workers_table import duration, render
from workers.runtime.supervision.beat import Report, RunningJob
from workers.runtime.supervision.view import FleetView, PoolView, ProcessView, ReloadView

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]j[/red]\n‮"

Answer = tuple[int, bytes]
Serve = Callable[[Answer], str]


def view(ready: bool = True, **fields: Any) -> FleetView:
    report = Report(
        pid=4711,
        uptime_s=3725.0,
        rss=300 * 1024**2,
        children=2,
        children_rss=90 * 1024**2,
        lag_s=0.012,
        jobs=1234,
        active=3,
        running=(RunningJob("email-send", "email-send", HOSTILE, 42.0),),
        extra={"loop_blocks": 3.0, "none_of_these": 0.0, "runs_left_behind": 2},
    )
    values: dict[str, Any] = {
        "pid": 1,
        "mode": "supervisor",
        "ready": ready,
        "pools": (PoolView(name="mail", processes=2, ready=1, queues=("email-send", "sms-message")),),
        "processes": (
            ProcessView(
                name="mail-0",
                pool="mail",
                state="ready",
                report=report,
                recycles=2,
                last_recycle="410MB resident, pools.mail.memory is 400MB",
                deaths=5,
                last_death="SIGSEGV",
            ),
            ProcessView(
                name="mail-1",
                pool="mail",
                state="dead",
                detail="died (SIGKILL), restarting in 8 s (5 deaths)",
                deaths=5,
                last_death="SIGKILL",
            ),
        ),
        **fields,
    }
    return FleetView(**values)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Servers on this machine that give one answer to everything."""
    servers: list[HTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(answer[0])
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(answer[1])

            def log_message(self, *args: Any) -> None:
                return

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answered(what: FleetView) -> Answer:
    return 200, json.dumps(what.json()).encode()


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["workers", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def shown(what: FleetView) -> str:
    console = Console(file=io.StringIO(), width=180, color_system="truecolor", force_terminal=True)
    console.print(render(what))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_all_that_matters_is_on_the_page() -> None:
    text = shown(view(reload=ReloadView(at=time.time() - 90, result="refused", detail="fleet.yaml:1:1: no")))
    for words in (
        "1 of 2",
        "email-send, sms-message",
        "4711",
        "1h2m",
        "300MB + 90MB in 2",
        "12 ms",
        "1234",
        "mail-1: died (SIGKILL), restarting in 8 s (5 deaths)",
        "mail-0: died last of SIGSEGV",
        "mail-0: replaced last: 410MB resident, pools.mail.memory is 400MB",
        "mail-0: left behind: 2 runs go on although the jobs are over",
        "mail-0: loop_blocks 3",
        "42s",
        "and 2 more",
        "configuration refused 1m30s ago: fleet.yaml:1:1: no",
    ):
        assert words in text, words
    assert "none_of_these" not in text and "runs_left_behind" not in text


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    text = shown(view())
    assert "\x1b]0" not in text and "\x1b[2J" not in text and "‮" not in text
    assert r"\x1b]0;owned\x07\x1b[2J[red]j[/red]\n\u202e" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.85, "850ms"), (1, "1s"), (59.9, "59s"), (90, "1m30s"), (3725, "1h2m"), (200_000, "55h33m")],
)
def test_durations_are_whole(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("ready", "code"), [(True, 0), (False, 1)])
def test_exit_code_says_whether_all_are_ready(serve: Serve, ready: bool, code: int) -> None:
    url = serve(answered(view(ready)))
    found, out, err = run("--url", url)
    assert (found, err) == (code, "")
    assert "mail-0" in out
    assert "\x1b" not in out


def test_json_is_one_line_as_the_fleet_said_it(serve: Serve) -> None:
    url = serve(answered(view()))
    code, out, _ = run("--url", url, "--json")
    assert code == 0
    (line,) = out.splitlines()
    assert json.loads(line)["processes"][0]["report"]["running"][0]["job_id"] == HOSTILE
    assert "\x1b" not in line


def test_answer_with_more_than_we_know_is_understood(serve: Serve) -> None:
    body = {**view().json(), "of_a_newer_fleet": [1]}
    found, _ = ask(serve((200, json.dumps(body).encode())))
    assert found.pools == view().pools


def interrupt_after(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two looks."""
    left = looks

    def sleep(seconds: float) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt

    monkeypatch.setattr("workers.cli.workers.time.sleep", sleep)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watch_looks_again_until_it_is_interrupted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    interrupt_after(3, monkeypatch)
    code, out, _ = run("--url", serve(answered(view(ready=False))), "--watch", *options)
    assert code == 1
    assert out.count("mail-0" if not options else '"mode"') >= 3


def test_watch_goes_on_where_the_fleet_is_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(2, monkeypatch)
    code, _, err = run("--url", f"http://127.0.0.1:{free_port()}", "--watch")
    assert code == 2
    assert err.count("no fleet answers") == 2


def test_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=180, color_system=None)
    monkeypatch.setattr(workers, "_console", lambda: screen)
    url = serve(answered(view()))
    interrupt_after(2, monkeypatch)
    assert run("--url", url, "--watch")[0] == 0
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().count("mail-1: died (SIGKILL)") == 2


def test_fleet_that_does_not_answer_is_said_with_the_setting() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, out, err = run("--url", url)
    assert (code, out) == (2, "")
    assert err.startswith(f"fleet workers: no fleet answers at {url}/workers: ")
    assert "http.port" in err


@pytest.mark.parametrize("url", ["", "9464", "ftp://host", "file:///etc/passwd", "http://", "http:///workers"])
def test_url_that_is_none_is_refused(url: str) -> None:
    code, _, err = run("--url", url)
    assert code == 2
    assert "--url: expected a URL like http://127.0.0.1:9464" in err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, b"{}"), "is not found: it is no fleet, or one of an older version"),
        ((403, b'{"error": "this machine alone"}'), "answers with 403: this machine alone"),
        ((500, b"\xff"), "answers with 500"),
        ((503, b"[1]"), "answers with 503"),
        ((302, b""), "answers with 302"),
        ((200, b"hello"), "does not answer as a fleet does"),
        ((200, b"{}"), "does not answer as a fleet does"),
        ((200, b"[" * 100_000), "does not answer as a fleet does"),
        ((200, b"\xff\xfe"), "does not answer as a fleet does"),
    ],
)
def test_answer_that_is_no_fleets_is_said(serve: Serve, answer: Answer, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        ask(serve(answer))
    assert words in str(caught.value)


def test_answer_without_end_is_not_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_source, "MAX_ANSWER", 1000)
    with pytest.raises(SourceError, match="more than 1,000 bytes"):
        ask(serve((200, b" " * 2000)))


def test_proxy_of_the_environment_is_not_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    found, _ = ask(serve(answered(view())))
    assert found.mode == "supervisor"


def test_what_a_stranger_says_can_not_reach_the_terminal(serve: Serve) -> None:
    url = serve((500, json.dumps({"error": HOSTILE}).encode()))
    _, _, err = run("--url", url)
    assert "\x1b" not in err
