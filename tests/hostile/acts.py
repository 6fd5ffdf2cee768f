"""What the processors of this folder can do. Each act is written once; in a plain `def` it runs without ever waiting
on a loop (sync_module.py), so it waits by `here.pause` alone.
"""
# ruff: noqa: ASYNC220, ASYNC221, ASYNC222, ASYNC230, ASYNC240, ASYNC251 - blocking the loop is what they are for

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from opentelemetry import trace

from tasks.codec import Limits, decode
from tests.hostile.task import Hostile, HostileOptions
from workers.contract import (
    BudgetError,
    Cancel,
    HandBack,
    JobContext,
    Park,
    PermanentError,
    RateLimited,
    RateLimitError,
    Requeue,
    Snooze,
    TransientError,
    UserError,
    Verdict,
    WaitForChildren,
)

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")
log = logging.getLogger(__name__)
#: What acts leave behind in their process.
left: list[Any] = []


class Here(Protocol):
    """Where an act runs."""

    concurrent: bool
    """Whether more than one thing can be waited for at once."""
    options: HostileOptions
    helper: subprocess.Popen[bytes] | None

    async def pause(self, seconds: float) -> None: ...


Act: TypeAlias = Callable[[Mapping[str, Any], JobContext, Here], Awaitable[Any]]
ACTS: dict[str, Act] = {}


def act(function: Act) -> Act:
    ACTS[function.__name__] = function
    return function


async def perform(task: Hostile, ctx: JobContext, here: Here) -> Any:
    return await ACTS[task.act](task.args, ctx, here)


class StrangeError(Exception):
    """Nobody knows it."""


class GravelyStrangeError(StrangeError):
    """`classify` says that it never gets better."""


def classify(error: Exception) -> Verdict:
    if isinstance(error, GravelyStrangeError):
        return Verdict(retry=False, failure="user")
    if isinstance(error, StrangeError):
        return Verdict(retry_after_s=7.0, failure="rate-limited")
    if isinstance(error, FloatingPointError):
        raise RuntimeError("classify fails")
    return Verdict()


OUTCOMES: dict[str, Any] = {
    "snooze": Snooze(1.5, "later"),
    "park": Park("set aside", wake_s=60.0),
    "cancel": Cancel("no use"),
    "rate_limited": RateLimited(2.0),
    "children": WaitForChildren(),
    "requeue": Requeue("next step"),
    "hand_back": HandBack("asked"),
    "strange_snooze": Snooze("soon", "later"),  # type: ignore[arg-type]
    "huge_snooze": Snooze(10**400, "later"),
}
ERRORS: dict[str, Callable[[], BaseException]] = {
    "transient": lambda: TransientError("later", retry_after_s=3.5),
    "rate_limit": lambda: RateLimitError("slow down", retry_after_s=9.0),
    "permanent": lambda: PermanentError("never"),
    "budget": lambda: BudgetError("nothing left"),
    "user": lambda: UserError("can't be done"),
    "strange": lambda: StrangeError("what?"),
    "gravely": lambda: GravelyStrangeError("what??"),
    "classify_fails": lambda: FloatingPointError("x"),
    "group": lambda: ExceptionGroup("two", [ValueError("a"), PermanentError("b")]),
    "memory": MemoryError,
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "surrogate": lambda: ValueError("bad \ud800 text"),
    "silent": lambda: _SilentError(),
}


class _SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


# ---------------------------------------------------------------- good manners


@act
async def echo(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return args["value"]


@act
async def facts(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return {
        "job_id": ctx.job_id,
        "attempt": ctx.attempt,
        "fence": ctx.fence,
        "left_s": ctx.deadline - time.monotonic(),
        "restored": ctx.restored,
        "stop": ctx.stop and ctx.stop.kind,
        "checkpoint_due": ctx.checkpoint_due,
        "pid": os.getpid(),
        "thread": threading.get_ident(),
        "token": here.options.token,
        "color": color.get(),
        "trace_id": trace.format_trace_id(trace.get_current_span().get_span_context().trace_id),
        "modules": [name for name in ("redis", "bullmq", "aiohttp") if name in sys.modules],
    }


@act
async def outcome(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return OUTCOMES[args["name"]]


@act
async def raises(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    raise ERRORS[args["name"]]()


@act
async def unstorable(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return {"a set": {1, 2}}


@act
async def not_finite(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return {"value": float("nan")}


@act
async def large(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return "x" * args["bytes"]


@act
async def tells(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    await ctx.progress({"status": "half", "progress": 50})
    await ctx.log("a line")
    stop = await ctx.checkpoint({"at": 3})
    values, failures = await ctx.children_values(), await ctx.children_failures()
    job_id = await ctx.add(Hostile(id="next", act="echo", args={"value": 1}), child=True)
    return {"stop": stop and stop.kind, "values": values, "failures": failures, "added": job_id}


@act
async def adds(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return await ctx.add(decode(args["task"], limits=Limits(max_depth=250)))


@act
async def asks_badly(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """What calls raise."""
    raised = []
    for ask in (
        lambda: ctx.progress(args["not_json"]),
        lambda: ctx.checkpoint("too large"),
        lambda: ctx.add(Hostile(act="echo")),
        lambda: ctx.children_values(),
    ):
        try:
            await ask()
        except Exception as error:
            raised.append([type(error).__name__, str(error), getattr(error, "retry_after_s", None)])
    return raised


@act
async def once(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    async with ctx.once(args["effect"]) as effect:
        if args.get("fails"):
            raise StrangeError("in the middle")
        if effect.state == "fresh":
            await effect.settle({"id": 5})
        return [effect.state, effect.result]


@act
async def waits(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Until it is asked to stop."""
    await ctx.progress({"status": "waiting"})
    while ctx.stop is None:
        await here.pause(0.002)
    if args.get("decline"):
        ctx.decline("not now")
        while ctx.stop is not None and ctx.stop.kind == "pause":
            await here.pause(0.002)
    return {"kind": ctx.stop.kind if ctx.stop else None, "reason": ctx.stop.reason if ctx.stop else None}


@act
async def saves_when_due(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    await ctx.progress({"status": "waiting"})
    while not ctx.checkpoint_due:
        await here.pause(0.002)
    await ctx.checkpoint("saved")
    return "saved"


@act
async def cleans_up(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Cancelled, it saves its state, then ends as it is told."""
    await ctx.progress({"status": "waiting"})
    try:
        while True:
            await ctx.log("busy")
            await here.pause(0.005)
    except asyncio.CancelledError:
        await ctx.checkpoint("saved while ending")
        if args.get("returns"):
            return "still done"
        raise


@act
async def logs(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    for number in range(args.get("times", 1)):
        log.warning("said %s", number, extra={"detail": "d", "odd": {1}})
    try:
        raise StrangeError("logged")
    except StrangeError:
        log.exception("with a stack")
    return None


@act
async def sets_color(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    before = color.get()
    color.set("leaked")
    return before


@act
async def grows(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Keeps `bytes`, and needs `more` for a moment."""
    left.append(bytearray(os.urandom(4096) * (args["bytes"] // 4096)))
    del bytearray(os.urandom(4096) * (args.get("more", 0) // 4096))[:]
    return None


# ------------------------------------------------------------------ bad manners


@act
async def returns_coroutine(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return here.pause(1)


@act
async def never_yields(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Keeps its thread busy in Python code until it is asked to stop, or for ever."""
    while not (args.get("listens") and ctx.stop):
        sum(range(1000))
    return ctx.stop.kind if ctx.stop else None


@act
async def holds_gil(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """A regular expression that takes for ever and never lets go of the interpreter."""
    re.match(r"(a+)+$", "a" * 64 + "!")


@act
async def sleeps_in_c(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    time.sleep(args["seconds"])
    return "awake"


@act
async def ignores_everything(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """SIGTERM, and whatever is raised into it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await ctx.progress({"status": "waiting"})
    while True:
        try:
            while True:
                await here.pause(0.01)
        except BaseException:
            continue


@act
async def dies(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    if "exit" in args:
        os._exit(args["exit"])
    if args["signal"] == "SIGSEGV" and args.get("truly"):
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.Signals[args["signal"]])
    time.sleep(60)


@act
async def eats_memory(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    eaten = []
    while True:
        eaten.append(bytearray(16 * 2**20))


@act
async def forks(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """The copy does as it is told: by default it simply goes on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is the point
        pid = os.fork()
    if pid == 0:
        if path := args.get("file"):
            with open(path, "a") as file:
                file.write(f"{os.getpid()}\n")
        match args.get("copy"):
            case "progress":
                await ctx.progress(99)
            case "pause":
                await here.pause(3600)
            case "exit":
                sys.exit(0)
            case "sleep":
                time.sleep(3600)
    elif args.get("both"):
        await ctx.progress(99)
    elif args.get("wait"):
        return [pid, os.waitpid(pid, 0)[1]]
    return [pid, None]


@act
async def forks_in_callback(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    pids: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def fork() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pids.set_result(os.fork())

    asyncio.get_running_loop().call_soon(fork)
    return [await pids, None]


@act
async def tells_progress(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    await ctx.progress(99)


@act
async def ticks(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Writes the number of its process into a file, again and again, until another file is there."""
    while not os.path.exists(args["until"]):
        with open(args["file"], "a") as file:
            file.write(f"{os.getpid()}\n")
        await here.pause(0.001)
    return "ticked"


@act
async def forks_in_subtask(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return await asyncio.create_task(forks(args, ctx, here))  # type: ignore[arg-type]


@act
async def forks_in_thread(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    def fork() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()

    return [await asyncio.to_thread(fork), None]


@act
async def starts_processes(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Good uses of forks: multiprocessing and subprocess."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = multiprocessing.get_context("fork")
        reading, writing = context.Pipe(duplex=True)
        process = context.Process(target=_doubles, args=(writing,))
        process.start()
    reading.send(21)
    doubled = reading.recv()
    process.join()
    shell = subprocess.run(["sh", "-c", "echo out; exit 3"], stdout=subprocess.PIPE, text=True, preexec_fn=os.getpid)
    return [doubled, process.exitcode, shell.stdout, shell.returncode]


def _doubles(pipe: Any) -> None:
    pipe.send(pipe.recv() * 2)


@act
async def leaves_processes(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """A sleeper in its group, and one that has left it."""
    detached = (
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  print(os.getpid(), flush=True)\n  time.sleep(3600)"
    )
    sleeper = subprocess.Popen(["sleep", "3600"])
    left.append(sleeper)
    daemon = subprocess.Popen([sys.executable, "-c", detached], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    pid = int(daemon.stdout.readline())
    daemon.wait()
    daemon.stdout.close()
    if args.get("dies"):
        with open(args["file"], "w") as file:
            file.write(f"{sleeper.pid} {pid}")
        os.kill(os.getpid(), signal.SIGKILL)
    return [sleeper.pid, pid]


@act
async def leaves_processes_and_waits(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    await leaves_processes(args, ctx, here)
    await here.pause(3600)


@act
async def helper_pid(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return here.helper.pid if here.helper is not None else None


@act
async def closes_descriptors(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    os.closerange(args.get("first", 3), 4096)
    return "closed"


@act
async def closes_standard_streams(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()
    return "done"


@act
async def redirects_output(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return "done"


@act
async def changes_directory(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    os.chdir("/")
    return "done"


@act
async def writes(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    line = args.get("line", "x" * 79) + "\n"
    for _ in range(args["bytes"] // len(line)):
        sys.stdout.write(line)
    if tail := args.get("tail"):
        sys.stdout.write(tail)
    return "written"


@act
async def writes_frames(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Into the socket to its host, whichever descriptor that is."""
    for fd in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") and os.get_blocking(fd):
                os.write(fd, args["text"].encode("latin-1"))
        except OSError:
            continue
    await here.pause(3600)


@act
async def floods(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Many calls at once."""
    if here.concurrent:
        await asyncio.gather(*(ctx.log(str(n)) for n in range(args["calls"])))
    else:
        for n in range(args["calls"]):
            await ctx.log(str(n))
    return "told"


class _Explosive:
    def __del__(self) -> None:
        raise RuntimeError("from __del__")


@act
async def explodes_later(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    _Explosive()
    return "fine"


@act
async def mutates(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    before = dict(args)
    args["value"] = "mutated"  # type: ignore[index]
    return before


@act
async def late_call(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """A thread that outlives the run goes on asking."""
    heard: list[str] = []
    left.append(heard)

    def later() -> None:
        time.sleep(0.05)
        try:
            step = ctx.log("too late")
            if step is not None:
                step.send(None)
            heard.append("answered")
        except BaseException as error:
            heard.append(type(error).__name__)

    threading.Thread(target=later, daemon=True).start()
    return None


@act
async def what_was_heard(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    while not left[-1]:
        await here.pause(0.01)
    return left[-1]


@act
async def limits(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    return resource.getrlimit(resource.RLIMIT_AS)[0]
