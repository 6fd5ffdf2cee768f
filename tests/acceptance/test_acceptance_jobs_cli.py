"""An operator looks at jobs and acts on them: the `fleet` command beside a real Valkey with real jobs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, mail
from tests.acceptance.fleet_command import environment
from tests.conftest import wait_until
from workers.broker.endpoint import Endpoint
from workers.dev.embedded import EmbeddedValkey

Run: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]

HOSTILE = "\x1b]0;owned\x07[red]j[/red]‮"
SECRET = "sk-live-51Habcdefghijklmnop"


@pytest.fixture
def env(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> dict[str, str]:
    own = {"REDIS_URL": redis_url, "FLEET__REDIS__PREFIX": prefix}
    return environment(own, request.config.cache.mkdir("compiled"))


@pytest.fixture
def fleet(env: dict[str, str], tmp_path: Path) -> Run:
    """Runs `python -m workers …` to its end: exit code, standard output, standard error."""

    async def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers",
            *arguments,
            env={**env, **variables},
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    return run


def audited(err: str) -> list[dict[str, Any]]:
    """The lines of the audit on standard error."""
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["logger"] == "fleet.audit"]


async def test_failed_jobs_are_found_and_retried_and_the_audit_knows(fleet: Run, jobs: Jobs, redis: Redis) -> None:
    for number in range(3):
        data = mail(userId=str(number % 2), apiKey=SECRET)
        await jobs.add(data, jobId=f"task-{number}")
    code, out, err = await fleet("jobs", "cancel", "task-0", "task-1", "task-2", "--reason", "SMTP 550")
    assert code == 0, err
    assert out.count("cancelled 1 job") == 3
    assert [(line["actor"] != "", line["via"], line["outcome"]) for line in audited(err)] == [(True, "cli", "done")] * 3

    filters = ("-q", "email-send", "--state", "failed", "--error", "smtp 550", "--where", "data.userId=0")
    code, out, err = await fleet("jobs", "list", *filters, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)["jobs"]
    assert [job["id"] for job in found] == ["task-2", "task-0"]
    assert SECRET not in out and found[0]["data"]["apiKey"] == "***"

    code, out, _ = await fleet("jobs", "retry", *filters)
    assert code == 0 and "would retry 2 jobs: task-2, task-0" in out
    assert await redis.zcard(jobs.key("failed")) == 3

    code, out, err = await fleet("jobs", "retry", *filters, "--yes")
    assert code == 0 and "retried 2 jobs" in out
    assert await jobs.state("task-0") == "waiting" and await jobs.state("task-1") == "failed"
    assert audited(err)[0]["with_limit"] == 1000

    code, out, err = await fleet("jobs", "retry", *filters, "--yes", "--json")
    assert (code, json.loads(out)["reports"][0]["matched"]) == (1, 0)

    code, _, err = await fleet("jobs", "retry", "task-0")
    assert code == 1 and "it is waiting now" in err
    assert audited(err)[0]["outcome"] == "refused"


async def test_one_job_is_shown_moved_replayed_and_removed(fleet: Run, jobs: Jobs) -> None:
    await jobs.add(mail(apiKey=SECRET, note=HOSTILE), jobId="run:7:x", delay=3_600_000)
    code, out, err = await fleet("jobs", "show", "run:7:x")
    assert code == 0, err
    assert SECRET not in out and "\x1b" not in out and "‮" not in out and "[red]j[/red]" in out
    assert SECRET in (await fleet("jobs", "show", "run:7:x", "--raw"))[1]

    assert (await fleet("jobs", "promote", "run:7:x"))[0] == 0
    assert await jobs.state("run:7:x") == "waiting"
    code, _, err = await fleet("jobs", "move", "run:7:x", "--to", "sms-message")
    assert code == 0, err
    assert (await fleet("jobs", "show", "run:7:x", "-q", "email-send"))[0] == 1
    assert (await fleet("jobs", "cancel", "run:7:x", "-q", "sms-message"))[0] == 0
    code, out, err = await fleet("jobs", "replay", "run:7:x")
    assert code == 0 and "run:7:x-replay-1" in out, err
    assert (await fleet("jobs", "remove", "run:7:x", "run:7:x-replay-1"))[0] == 0
    code, out, err = await fleet("jobs", "remove", "run:7:x")
    assert (code, out) == (1, "") and "there is no task or job" in err


async def test_a_log_is_shown_page_by_page(fleet: Run, jobs: Jobs, redis: Redis) -> None:
    job_id = await jobs.add(mail())
    await redis.rpush(jobs.key(f"{job_id}:logs"), "one", f"two {HOSTILE} password={SECRET}", "three")
    code, out, err = await fleet("jobs", "logs", job_id, "--limit", "2")
    assert code == 0 and "more: --start 2" in err
    assert out.splitlines()[0] == "one" and len(out.splitlines()) == 2
    assert "\x1b" not in out and SECRET not in out
    code, out, _ = await fleet("jobs", "logs", job_id, "--start", "2", "--json")
    assert (code, json.loads(out)["lines"], json.loads(out)["total"]) == (0, ["three"], 3)


async def test_status_sees_a_pause_of_node_and_resume_ends_it(
    fleet: Run, jobs: Jobs, redis_url: str, prefix: str
) -> None:
    others = Queue("node-only", {"connection": redis_url, "prefix": prefix})
    await others.add("n", {"a": 1})
    await jobs.queue.pause()
    code, out, err = await fleet("status", "--json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    assert "paused for everyone" in document["attention"]["email-send"][0]
    assert {queue["queueName"]: queue["configured"] for queue in document["queues"]}["node-only"] is False
    code, out, _ = await fleet("queues", "resume", "email-send", "no-such-queue")
    assert code == 1 and "email-send: open again" in out
    assert not await jobs.queue.isPaused()
    code, out, _ = await fleet("queues", "drain", "node-only")
    assert code == 0 and "would remove 1 job" in out
    assert (await fleet("queues", "drain", "node-only", "--yes"))[0] == 0
    code, out, _ = await fleet("status")
    assert code == 0 and "node-only" in out and "open" in out
    await others.close()


async def test_tail_tells_what_happens_as_lines_of_json(
    env: dict[str, str], tmp_path: Path, jobs: Jobs, endpoint: Endpoint, redis: Redis
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", "jobs", "tail", "-q", "email-send", "--json", "-e", "added", "-n", "2"),
        env=env,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )

    async def reads() -> bool:
        return any(each["cmd"].startswith("xread") for each in await redis.client_list())

    listens: Callable[[], Awaitable[bool] | bool] = reads

    await wait_until(listens)
    added = [await jobs.add(mail()) for _ in range(2)]
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert [json.loads(line)["jobId"] for line in out.splitlines()] == added


async def test_a_job_is_added_as_its_workers_read_it(fleet: Run, jobs: Jobs, tmp_path: Path) -> None:
    data = mail(id="welcome-42")
    code, out, err = await fleet("add", "email-send", "--data", json.dumps(data), "--delay", "1h", "--json")
    assert code == 0, err
    job_id = json.loads(out)["jobId"]
    assert await jobs.state(job_id) == "delayed"
    assert json.loads((await jobs.row(job_id))["data"])["subject"] == data["subject"]
    (tmp_path / "mail.json").write_text(json.dumps(data))
    code, out, _ = await fleet("add", "email-send", "--file", "mail.json")
    assert code == 1 and f"not added, for job {job_id} has its id already and is delayed" in out
    code, out, err = await fleet("add", "email-send", "--data", json.dumps({**data, "to": 7}))
    assert (code, out) == (2, "") and "data.to" in err
    assert (await fleet("add", "no-such-type", "--data", "{}"))[0] == 2


async def test_what_can_not_be_asked_ends_with_2(fleet: Run, jobs: Jobs, tmp_path: Path) -> None:
    code, out, err = await fleet("status", REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, out) == (2, "") and "Redis" in err
    code, out, err = await fleet("jobs", "list", "--where", "data.userId")
    assert (code, out) == (2, "") and err.startswith("fleet: where: expected a condition")
    code, out, err = await fleet("jobs", "list", "-q", "no-such-queue")
    assert (code, out) == (1, "") and "no-such-queue" in err
    code, out, err = await fleet("status", REDIS_URL="")
    assert (code, out) == (2, "") and "no Valkey runs in" in err


async def test_the_embedded_server_that_runs_is_asked(fleet: Run, tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / ".fleet", durable=False)
    await server.start()
    try:
        queue = Queue("email-send", {"connection": server.url})
        await queue.add("email-send", mail(), {"jobId": "task-1", "delay": 60_000})
        await queue.close()
        code, out, err = await fleet("jobs", "list", REDIS_URL="", FLEET__REDIS__PREFIX="bull")
        assert code == 0 and "task-1" in out, err
    finally:
        await server.stop(by=asyncio.get_running_loop().time() + 10)
