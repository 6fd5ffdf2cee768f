"""`fleet status`, `queues` and `jobs` against a source of the test's own: what they ask, print, and end with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workers.broker.event_stream import QueueEvent
from workers.broker.job_view import JobKey, JobView
from workers.broker.stats import QueueStats, WorkerSeen
from workers.cli import queue_session
from workers.cli.commands import app
from workers.cli.queue_session import Where
from workers.cli.queue_source import Document, Source
from workers.cli.wanted import Wanted
from workers.ops.api.told import told
from workers.queue_service.add_options import AddOptions
from workers.queue_service.added import Added
from workers.queue_service.errors import (
    QueueServiceError,
    QueueUnavailableError,
    RefusedError,
    UnknownJobError,
    UnknownQueueError,
)
from workers.queue_service.queue_status import QueueStatus
from workers.queue_service.report import ActReport
from workers.queue_service.task_details import TaskDetails

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]j[/red]\r\n‮\x9b"
SHOWN = r"\x1b]0;owned\x07\x1b[2J[red]j[/red]\r\n\u202e\x9b"
SECRET = "sk-live-51Habcdefghijklmnop"


def job(job_id: str = "j1", queue: str = "q", **fields: Any) -> JobView:
    values: dict[str, Any] = {"name": "n", "state": "failed", "added_ms": 1_000, "data": {"apiKey": SECRET}, **fields}
    return JobView(queue=queue, id=job_id, task_id=values.pop("task_id", job_id), **values)


def worker(side: Any) -> WorkerSeen:
    return WorkerSeen(
        queue="q",
        name="w",
        side=side,
        address="127.0.0.1:1",
        library="x",
        connected_s=1,
        idle_s=0,
        is_waiting=True,
    )


class FakeSource:
    """Answers from what the test put in."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.stats: list[QueueStatus] = [QueueStatus(QueueStats(queue="q", failed=3, workers=(worker("fleet"),)), True)]
        self.views: list[JobView] = []
        self.found: list[QueueEvent] = []
        self.errors: dict[str, QueueServiceError] = {}
        self.report: dict[str, Any] = {}
        self.page = 1000
        self.added = Added("q", "j1", "j1")

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        for each in what:
            if isinstance(each, str) and each in self.errors:
                raise self.errors[each]

    async def queues(self, names: Sequence[str]) -> list[Document]:
        self._note("queues", *names)
        return [each.json() for each in self.stats]

    async def jobs(self, queue: str, wanted: Wanted, *, cursor: str | None, limit: int, oldest_first: bool) -> Document:
        self._note("jobs", queue, cursor, limit, oldest_first)
        start = int(cursor or 0)
        mine = [each for each in self.views if each.queue == queue]
        end = start + min(limit, self.page)
        left = str(end) if end < len(mine) else None
        shown = [each.json() for each in mine[start:end] if wanted.filter().matches(each, 10_000)]
        return {"jobs": shown, "cursor": left, "lookedAt": len(mine[start:end])}

    async def job(self, queue: str, job_id: str) -> Document:
        self._note("job", queue, job_id)
        for each in self.views:
            if (each.queue, each.id) == (queue, job_id):
                return each.json()
        raise UnknownJobError("there is no such job")

    async def task(self, task_id: str, queue: str | None) -> Document:
        self._note("task", task_id, queue)
        mine = [each for each in self.views if task_id in (each.id, each.task_id) and queue in (None, each.queue)]
        if not mine:
            raise UnknownJobError("there is no such task")
        return TaskDetails(job=mine[0], logs=2, children={}, others=tuple(mine[1:])).json()

    async def logs(self, queue: str, job_id: str, *, start: int, limit: int) -> Document:
        self._note("logs", queue, job_id, start, limit)
        return {"lines": [f"password={SECRET}", HOSTILE], "total": 5, "start": start, "next": 2}

    async def act(self, action: str, queue: str, job_id: str, **arguments: Any) -> Document:
        self._note("act", action, queue, job_id, arguments)
        report = {"matched": 1, "done": 1, "job_ids": (job_id,), **self.report}
        return told(ActReport(action=action, queue=queue, **report))

    async def act_on_queue(self, action: str, queue: str, **arguments: Any) -> Document:
        self._note("act_on_queue", action, queue, arguments)
        dry = bool(arguments.get("dry_run"))
        return told(ActReport(action=action, queue=queue, dry_run=dry, **{"matched": 1, "done": 1, **self.report}))

    async def bulk(
        self, action: str, queue: str, wanted: Wanted, *, to: str | None, dry_run: bool, limit: int
    ) -> Document:
        self._note("bulk", action, queue, str(wanted.filter()), to, dry_run, limit)
        report = {"matched": 2, "done": 0 if dry_run else 2, "job_ids": ("a", "b"), **self.report}
        return told(ActReport(action=action, queue=queue, dry_run=dry_run, **report))

    async def add(self, task: Mapping[str, Any], options: AddOptions) -> Added:
        self._note("add", task, options)
        return self.added

    @asynccontextmanager
    async def events(self, queues: Sequence[str]) -> AsyncIterator[AsyncIterator[Document]]:
        self._note("events", *queues)

        async def heard() -> AsyncIterator[Document]:
            for each in self.found:
                yield each.json()

        yield heard()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    fake = FakeSource()

    @asynccontextmanager
    async def opened(where: Where) -> AsyncIterator[Source]:
        yield fake

    monkeypatch.setattr(queue_session, "opened", opened)
    return fake


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "\x1b" not in result.stdout + result.stderr and "‮" not in result.stdout + result.stderr
    return result.exit_code, result.stdout, result.stderr


# ------------------------------------------------------------------------------------------------- status


def test_status_is_well_although_jobs_have_failed(source: FakeSource) -> None:
    code, out, _ = run("status")
    assert (code, source.asked) == (0, [("queues",)])
    assert "fleet 1" in out and " 3 " in out


@pytest.mark.parametrize(
    ("stats", "said"),
    [
        (QueueStats(queue="q", is_paused=True, workers=(worker("node"),)), "paused for everyone"),
        (QueueStats(queue="q", waiting=2, workers=()), "2 jobs could start, and nobody works on it"),
        (QueueStats(queue="q", problems=(HOSTILE,)), f"can't be read: {SHOWN}"),
    ],
)
def test_status_says_what_wants_a_look(source: FakeSource, stats: QueueStats, said: str) -> None:
    source.stats = [QueueStatus(stats, True)]
    code, out, _ = run("status")
    assert code == 1 and said in out
    code, out, _ = run("status", "--json")
    assert (code, json.loads(out)["status"], list(json.loads(out)["attention"])) == (1, "attention", ["q"])


def test_status_takes_nobodys_word_for_no_workers(source: FakeSource) -> None:
    source.stats = [QueueStatus(QueueStats(queue="q", waiting=2, workers=None), True)]
    assert run("status")[0] == 0


def test_competing_workers_are_named_and_no_alarm(source: FakeSource) -> None:
    seen = (worker("fleet"), worker("node"), worker("node"))
    source.stats = [QueueStatus(QueueStats(queue="q", workers=seen, limited_s=4.0), True)]
    code, out, _ = run("status", "q")
    assert code == 0 and "fleet 1, node 2" in out and "none of ours" in out and "rate-limited" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnknownQueueError("no queue"), 1), (QueueUnavailableError("Redis is away " + HOSTILE), 2)],
)
def test_what_can_not_be_told_has_its_exit_code(source: FakeSource, error: QueueServiceError, code: int) -> None:
    source.errors["queues"] = error
    for command in (["status"], ["queues", "list"], ["status", "--json"]):
        found, out, err = run(*command)
        assert (found, out) == (code, "") and err.startswith("fleet: ")


def test_a_configuration_that_is_wrong_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("redis: {url: 7}\n")
    code, _, err = run("status", "-c", str(file))
    assert code == 2 and "redis.url" in err


def test_an_embedded_server_that_does_not_run_ends_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    code, _, err = run("status", "-s", f"redis.data_dir={tmp_path}", "-s", "redis.url=embedded")
    assert code == 2 and "no Valkey runs in" in err and "REDIS_URL" in err
    assert list(tmp_path.iterdir()) == []  # and none was made


# ------------------------------------------------------------------------------------------------- queues


def test_queues_are_paused_and_what_is_not_there_does_not_keep_the_others(source: FakeSource) -> None:
    source.errors["nope"] = UnknownQueueError("there is no queue nope")
    code, out, err = run("queues", "pause", "nope", "q")
    assert (code, out.strip(), err.strip()) == (1, "q: paused for everyone", "fleet: there is no queue nope")
    source.report = {"done": 0}
    assert run("queues", "resume", "q")[:2] == (0, "q: it was so already, nothing was changed\n")


def test_draining_and_cleaning_want_a_yes(source: FakeSource) -> None:
    assert run("queues", "drain", "q")[0] == 0
    assert run("queues", "drain", "q", "--delayed", "-n", "5", "--yes")[0] == 0
    code, out, _ = run("queues", "clean", "q", "--state", "failed", "--older", "1h", "--json")
    assert code == 0 and json.loads(out)["reports"][0]["dryRun"] is True
    assert [each[3] for each in source.asked] == [
        {"delayed": False, "limit": 100_000, "dry_run": True},
        {"delayed": True, "limit": 5, "dry_run": False},
        {"state": "failed", "limit": 1000, "dry_run": True, "older_s": 3600.0},
    ]


def test_cleaning_an_empty_queue_is_done(source: FakeSource) -> None:
    source.report = {"matched": 0, "done": 0}
    assert run("queues", "clean", "q", "--state", "failed", "--yes")[:2] == (0, "q: removed 0 jobs\n")


def test_redis_that_goes_away_between_two_queues_ends_with_2(source: FakeSource) -> None:
    source.errors["b"] = QueueUnavailableError("Redis does not answer")
    code, out, err = run("queues", "pause", "a", "b", "c")
    assert code == 2 and "a: paused" in out and "does not answer" in err
    assert [each[2] for each in source.asked] == ["a", "b"]


# --------------------------------------------------------------------------------------------------- list


def test_jobs_of_all_queues_are_one_list_with_a_cursor(source: FakeSource) -> None:
    source.stats = [QueueStatus(QueueStats(queue=name, failed=2), True) for name in ("a", "b", "empty", "c")]
    source.stats[2] = QueueStatus(QueueStats(queue="empty"), True)
    source.views = [job(f"{queue}{at}", queue) for queue in "abc" for at in range(2)]
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(3):
        code, out, _ = run("jobs", "list", "--limit", "2", "--json", *cursor)
        page = json.loads(out)
        assert code == 0
        seen += [each["id"] for each in page["jobs"]]
        cursor = ["--cursor", page["cursor"] or ""]
    assert (seen, cursor[1]) == (["a0", "a1", "b0", "b1", "c0", "c1"], "")
    assert "empty" not in {each[1] for each in source.asked if each[0] == "jobs"}


def test_a_cursor_in_the_midst_of_a_queue_goes_on_there(source: FakeSource) -> None:
    source.views = [job(f"j{at}") for at in range(3)]
    _, out, _ = run("jobs", "list", "-q", "q", "--limit", "2", "--json")
    assert json.loads(out)["cursor"] == "q:2"
    _, out, _ = run("jobs", "list", "-q", "q", "--cursor", "q:2", "--json")
    assert [each["id"] for each in json.loads(out)["jobs"]] == ["j2"]
    code, _, err = run("jobs", "list", "-q", "q", "--cursor", "other:2")
    assert code == 2 and "cursor" in err


def test_pages_without_a_match_are_passed_over(source: FakeSource) -> None:
    source.page = 1
    source.views = [job(f"j{at}", failed_reason="no" if at < 4 else "SMTP 550") for at in range(5)]
    code, out, _ = run("jobs", "list", "-q", "q", "--error", "smtp")
    assert code == 0 and "j4" in out and "j3" not in out


def test_no_match_ends_with_1_and_says_what_was_asked(source: FakeSource) -> None:
    source.views = [job()]
    code, out, err = run("jobs", "list", "--state", "delayed", "-q", "q", "--where", "data.userId=1")
    assert (code, out) == (1, "")
    assert "no job matches: delayed jobs where data.userId=1 (1 were looked through)" in err


@pytest.mark.parametrize(
    ("option", "value"), [("--state", "nope"), ("--older", "soon"), ("--where", "x"), ("--where", HOSTILE)]
)
@pytest.mark.parametrize("command", [("list",), ("retry", "-q", "q"), ("remove", "-q", "q", "--yes")])
def test_a_wrong_filter_ends_with_2_and_asks_nothing(
    source: FakeSource, command: tuple[str, ...], option: str, value: str
) -> None:
    code, out, err = run("jobs", *command, option, value)
    assert (code, out, source.asked) == (2, "", [])
    assert err.startswith(f"fleet: {option.removeprefix('--')}: ")


def test_hostile_names_are_shown_and_not_obeyed(source: FakeSource) -> None:
    source.views = [
        job(HOSTILE, name=HOSTILE, failed_reason=HOSTILE, stacktrace=(HOSTILE,), data={HOSTILE: HOSTILE}, task_id="t")
    ]
    _, out, _ = run("jobs", "list", "-q", "q")
    assert out.count(SHOWN) == 2
    _, out, _ = run("jobs", "show", "t")
    assert SHOWN in out and "[red]j[/red]" in out
    for command in (["list", "-q", "q"], ["show", "t"]):
        _, out, _ = run("jobs", *command, "--json", "--raw")
        document = json.loads(out)
        assert (document.get("jobs") or [document["job"]])[0]["data"] == {HOSTILE: HOSTILE}
        assert out.isascii()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("command", [["show", "j1"], ["logs", "j1"], ["tail"]])
def test_secrets_are_hidden_unless_raw_is_said(source: FakeSource, command: list[str], as_json: list[str]) -> None:
    source.views = [job(returnvalue={"token": SECRET}, failed_reason=f"Bearer {SECRET}")]
    source.found = [QueueEvent("q", "1-0", "completed", "j1", {"returnvalue": {"token": SECRET}})]
    assert SECRET not in run("jobs", *command, *as_json)[1]
    assert SECRET in run("jobs", *command, *as_json, "--raw")[1]


def test_show_says_what_is_known(source: FakeSource) -> None:
    parent = JobKey("bull:p:7", "p", "7")
    source.views = [
        job(failed_reason="no such host", attempts_made=2, attempts=3, parent=parent, problems=("opts: bad",)),
        job(queue="other"),
    ]
    code, out, _ = run("jobs", "show", "j1")
    assert code == 0
    for words in ("no such host", "2 of 3", "7 in p", "opts: bad", "j1 in other (failed)", "2 lines"):
        assert words in out, words
    assert run("jobs", "show", "nope")[0] == 1


# --------------------------------------------------------------------------------------------------- acts


def test_ids_are_acted_on_at_once_wherever_they_are(source: FakeSource) -> None:
    source.views = [job("j1"), job("run:7:x", "other", task_id="7")]
    assert run("jobs", "retry", "j1", "7", "--reset-attempts")[0] == 0
    assert source.asked[1::2] == [
        ("act", "retry", "q", "j1", {"reset_attempts": True}),
        ("act", "retry", "other", "run:7:x", {"reset_attempts": True}),
    ]


def test_an_id_that_means_several_is_not_guessed(source: FakeSource) -> None:
    source.views = [job("1"), job("1", "other")]
    code, _, err = run("jobs", "remove", "1")
    assert code == 1 and "job 1 in q, job 1 in other" in err and "--queue" in err
    assert not [each for each in source.asked if each[0] == "act"]
    assert run("jobs", "remove", "1", "-q", "other", "--keep-children")[0] == 0
    assert source.asked[-1] == ("act", "remove", "other", "1", {"children": False})


def test_one_refusal_does_not_keep_the_others(source: FakeSource) -> None:
    source.views = [job("a"), job("b")]
    original = source.act

    async def act(action: str, queue: str, job_id: str, **arguments: Any) -> Document:
        if job_id == "a":
            raise RefusedError(f"job a: it has ended {HOSTILE}")
        return await original(action, queue, job_id, **arguments)

    source.act = act  # type: ignore[method-assign]
    code, out, err = run("jobs", "cancel", "a", "b", "nope", "--reason", "why")
    assert code == 1 and "cancelled 1 job: b" in out
    assert SHOWN in err and "no such task" in err
    code, out, _ = run("jobs", "cancel", "a", "--json")
    assert code == 1 and [each["id"] for each in json.loads(out)["refused"]] == ["a"]


def test_a_running_job_that_was_asked_to_stop_is_told_so(source: FakeSource) -> None:
    source.views = [job(state="active")]
    source.report = {"done": 0, "job_ids": (), "requested": {"j1": f"w {HOSTILE}"}}
    code, out, _ = run("jobs", "cancel", "j1")
    assert code == 0 and f"j1 was asked to stop (w {SHOWN})" in out and "cancelled 0" not in out


def test_a_dry_run_of_ids_changes_nothing(source: FakeSource) -> None:
    source.views = [job()]
    code, out, _ = run("jobs", "remove", "j1", "--dry-run")
    assert code == 0 and "would remove 1 job: j1" in out
    assert not [each for each in source.asked if each[0] == "act"]


def test_filters_want_a_yes(source: FakeSource) -> None:
    command = ["jobs", "retry", "-q", "q", "--state", "failed", "--error", "550", "--limit", "7"]
    code, out, _ = run(*command)
    assert code == 0 and "would retry 2 jobs: a, b" in out and "--yes" in out
    code, out, _ = run(*command, "--yes")
    assert code == 0 and "retried 2 jobs: a, b" in out
    assert [each[5] for each in source.asked] == [True, False]
    assert source.asked[0][3:] == ('failed jobs whose error says "550"', None, True, 7)


@pytest.mark.parametrize(
    ("report", "code", "said"),
    [
        ({"matched": 0, "done": 0, "job_ids": ()}, 1, "nothing matched"),
        ({"matched": 2, "done": 1, "skipped": {"b": HOSTILE}}, 1, f"b was left alone: {SHOWN}"),
        ({"more": True}, 0, "more match"),
    ],
)
def test_the_exit_code_of_many(source: FakeSource, report: dict[str, Any], code: int, said: str) -> None:
    source.report = report
    found, out, _ = run("jobs", "promote", "-q", "q", "--state", "delayed", "--yes")
    assert found == code and said in out


@pytest.mark.parametrize(
    "command",
    [
        ["retry"],
        ["retry", "--state", "failed"],
        ["retry", "j1", "--state", "failed", "-q", "q"],
        ["remove", "-q", "q", "--state", "failed", "--keep-children", "--yes"],
        ["cancel", "-q", "q", "--state", "waiting", "--reason", "x", "--yes"],
        ["replay", "j1", "j2", "--data", "{}"],
        ["replay", "j1", "--data", "{"],
        ["replay", "j1", "--file", "/nowhere/at/all"],
        ["replay", "j1", "--data", "{}", "--file", "x"],
        ["move", "j1"],
    ],
)
def test_what_is_asked_wrongly_ends_with_2_and_changes_nothing(source: FakeSource, command: list[str]) -> None:
    code, out, err = run("jobs", *command)
    assert (code, out) == (2, "") and err
    assert not [each for each in source.asked if each[0] in ("act", "bulk")]


def test_a_replay_takes_other_data(source: FakeSource, tmp_path: Path) -> None:
    source.views = [job()]
    file = tmp_path / "data.json"
    file.write_text('{"a": 1}')
    assert run("jobs", "replay", "j1", "--file", str(file))[0] == 0
    assert run("jobs", "replay", "j1", "--file", "-", stdin='{"a": 2}')[0] == 0
    assert run("jobs", "replay", "j1")[0] == 0
    assert [each[4] for each in source.asked if each[0] == "act"] == [{"data": {"a": 1}}, {"data": {"a": 2}}, {}]


def test_moving_names_the_other_queue(source: FakeSource) -> None:
    source.views = [job()]
    assert run("jobs", "move", "j1", "--to", "other")[0] == 0
    assert run("jobs", "move", "-q", "q", "--state", "failed", "--to", "other", "--yes")[0] == 0
    assert source.asked[1] == ("act", "move", "q", "j1", {"to": "other"})
    assert source.asked[2] == ("bulk", "move", "q", "failed jobs", "other", False, 1000)


# --------------------------------------------------------------------------------------------------- tail


def test_tail_prints_a_line_for_each_event_that_is_wanted(source: FakeSource) -> None:
    source.found = [
        QueueEvent("q", "1-0", "added", HOSTILE, {"name": HOSTILE}),
        QueueEvent("q", "2-0", "failed", "j1", {"failedReason": HOSTILE}),
        QueueEvent("q", "", "dropped", None, {"count": 3}),
        QueueEvent("q", "3-0", "failed", "j2", {}),
    ]
    _, out, _ = run("jobs", "tail")
    assert len(out.splitlines()) == 4 and SHOWN in out
    _, out, _ = run("jobs", "tail", "--json", "--event", "failed", "--count", "1")
    assert [json.loads(line)["jobId"] for line in out.splitlines()] == ["j1"]
    _, out, _ = run("jobs", "tail", "--json", "-e", "failed")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["failed", "dropped", "failed"]
    assert run("jobs", "tail", "--for", "never")[0] == 2


def test_every_command_says_its_exit_codes() -> None:
    commands = ["status", "add", *(f"queues {each}" for each in ("list", "pause", "resume", "drain", "clean"))]
    commands += [
        f"jobs {each}"
        for each in ("list", "show", "logs", "tail", "retry", "promote", "cancel", "remove", "move", "replay")
    ]
    for command in commands:
        code, out, _ = run(*command.split(), "--help")
        assert code == 0 and "exit code" in " ".join(out.split()), command
        assert "See CODES" not in out


# ---------------------------------------------------------------------------------------------------- add


def test_a_job_is_added_or_it_is_said_why_not(source: FakeSource) -> None:
    source.added = Added("email-send", "task-1", "task-1")
    code, out, _ = run("add", "email-send", "--data", '{"id": "task-1"}', "--delay", "10m", "--lifo", "-q", "x")
    assert (code, out) == (0, "email-send: added job task-1\n")
    assert source.asked == [
        (
            "add",
            {"type": "email-send", "id": "task-1"},
            AddOptions(queue="x", delay_ms=600_000, lifo=True),
        )
    ]
    source.added = Added("email-send", f"task-1{HOSTILE}", "task-1", True, "failed", "id")
    code, out, _ = run("add", "email-send", "--file", "-", stdin='{"type": "email-send"}')
    assert (code, out) == (1, f"email-send: not added, for job task-1{SHOWN} has its id already and is failed\n")
    source.added = Added("email-send", "task-1", "task-1", True, "active", "deduplication", held=True)
    assert run("add", "email-send", "--data", "{}")[0] == 0
    assert json.loads(run("add", "email-send", "--data", "{}", "--json")[1])["jobId"] == "task-1"


@pytest.mark.parametrize(
    "given", [["--data", "[]"], ["--data", '{"type": "other"}'], ["--data", "{"], ["--delay", "x"]]
)
def test_wrong_data_are_not_sent(source: FakeSource, given: list[str]) -> None:
    code, out, err = run("add", "email-send", *given, stdin="")
    assert (code, out, source.asked) == (2, "", []) and err
