"""What the hostile neighbour does in each scene, and how its job has to end. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A processor in a child may run so long before it is cancelled and killed, seconds; on the loop it is cancelled then.
CANCEL_S, KILL_S = 2.0, 3.0
#: The longest time that a job may ask for itself, seconds.
JOB_MAY_SET_S = 60.0
#: How long a mail may take, seconds: a process that a neighbour blocks lives until its last mail's time is up.
MAIL_S = 10.0
GIGABYTE = 2**30

COMPLETES = r"completed"
KILLED = r"failed: timed out after 3 s at rung kill"
IGNORED = r"failed: timed out after \d+ s at rung kill .*it ignored its cancellation"
#: Its output is read at 64 MB a second at most, and slower on a busy machine.
WRITES = r"completed|failed: timed out after 2\d s at rung kill"
POISON = r"failed: .*died"


@dataclass(frozen=True, kw_only=True)
class Act:
    """One way to misbehave."""

    title: str
    act: str
    """Its function's name in tests/hostile/acts.py or tests/chaos/hostile_module.py."""
    ends: str
    """A pattern for how the job ends."""
    args: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    """What the job says itself; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One fleet: who runs the hostile jobs, and where."""

    title: str
    about: str
    isolation: str
    acts: Sequence[Act]
    processes: int = 1
    own_pool: bool = False
    """The hostile queue has a pool of its own; else it shares that of the mails."""
    quiet_s: float = 6.0
    """How long the mails are alone before the first act."""


def _act(title: str, act: str, ends: str, timeout_s: float | None = None, **args: Any) -> Act:
    return Act(title=title, act=act, ends=ends, args=args, timeout_s=timeout_s)


_IN_CHILDREN = (
    _act("never yields", "never_yields", KILLED),
    _act("ignores every stop", "ignores_everything", KILLED),
    _act("regular expression that holds the GIL", "holds_gil", KILLED),
    _act("forks, and the copy lives on", "forks", COMPLETES, copy="sleep"),
    _act("closes stdin, stdout and stderr", "closes_standard_streams", COMPLETES),
    _act("closes every descriptor from 3 on", "closes_descriptors", r"failed: |completed"),
    _act("writes 1 GB to stdout", "writes", WRITES, timeout_s=20, bytes=GIGABYTE),
    _act("returns a coroutine", "returns_coroutine", r"failed: .*coroutine"),
    _act("mutates its task", "mutates", COMPLETES, value="as it came"),
    _act("raises from `__del__`", "explodes_later", COMPLETES),
    _act("memory bomb", "bombs_memory", r"failed: .*MemoryError"),
    _act("kill -9 of its process", "dies", r"failed: its process was killed by SIGKILL", signal="SIGKILL"),
    _act("segmentation fault", "dies", r"failed: its process was killed by SIGSEGV", signal="SIGSEGV", truly=True),
    _act("descriptors exhausted", "exhausts_descriptors", r"failed: .*Too many open files", seconds=1),
    _act("disk full (RLIMIT_FSIZE)", "fills_disk", r"failed: .*File too large", seconds=1),
)
_BLOCKED = _act("blocks the loop for 1.5 s", "sleeps_in_c", COMPLETES, seconds=1.5)
_HOGGED = _act("holds the GIL for 1.5 s", "hogs_gil", COMPLETES, seconds=1.5)
_NEVER = _act("never yields", "never_yields", POISON)
_KILLED = _act("kill -9 of its process", "dies", POISON, signal="SIGKILL")

SCENES = (
    Scene(
        title="`isolation: process`, one process",
        about="What a deployer would choose for such a module: its jobs run in children of the one process.",
        isolation="process",
        acts=_IN_CHILDREN,
        quiet_s=15.0,
    ),
    Scene(
        title="`isolation: async`, one process",
        about="The wrong choice for it: its jobs run on the loop that the mails run on.",
        isolation="async",
        acts=(
            _act("returns a coroutine", "returns_coroutine", r"failed: .*coroutine"),
            _act("mutates its task", "mutates", COMPLETES, value="as it came"),
            _act("raises from `__del__`", "explodes_later", COMPLETES),
            _act("forks, and the copy goes on", "forks", COMPLETES),
            _act("ignores every stop", "ignores_everything", IGNORED),
            _act("descriptors exhausted", "exhausts_descriptors", r"failed: .*Too many open files", seconds=1),
            _act("disk full (RLIMIT_FSIZE)", "fills_disk", r"failed: .*File too large", seconds=1),
            _BLOCKED,
            _HOGGED,
            _KILLED,
            _NEVER,
        ),
    ),
    Scene(
        title="`isolation: async`, `processes: 2`",
        about="The same pool with two processes: one of them is hit, the other one goes on with the queue.",
        isolation="async",
        processes=2,
        acts=(_BLOCKED, _HOGGED, _KILLED, _NEVER),
    ),
    Scene(
        title="`isolation: async`, a pool of its own",
        about="The hostile queue in a pool of its own: the mails share the machine with it, and nothing else.",
        isolation="async",
        own_pool=True,
        acts=(_BLOCKED, _HOGGED, _KILLED, _NEVER),
    ),
)


def shortened(scene: Scene, acts: int) -> Scene:
    """The first so many acts, after a short quiet."""
    return Scene(**{**vars(scene), "acts": tuple(scene.acts[:acts]), "quiet_s": 3.0})


def configuration(scene: Scene, redis: str, mail: str) -> dict[str, Any]:
    """The fleet.yaml of a scene: fleet's defaults but for what is said here."""
    timeout: Any = f"{CANCEL_S:g}s"
    if scene.isolation == "process":
        times = {"cancel": CANCEL_S, "kill": KILL_S, "job_may_set": JOB_MAY_SET_S}
        timeout = {name: f"{seconds:g}s" for name, seconds in times.items()}
    mails = {
        "pool": "communication",
        "concurrency": 5,
        "task": {
            "timeout": f"{MAIL_S:g}s",
            "retry": {"attempts": 3, "backoff": "2s x2"},
            "options": {"smtp_url": mail, "tls": "none", "from_alias": "fleet@example.com"},
        },
    }
    hostile = {
        "pool": "hostile" if scene.own_pool else "communication",
        "module": "tests.chaos.hostile_module",
        "concurrency": 2,
        "deaths": 1,
        "task": {
            "timeout": timeout,
            "isolation": scene.isolation,
            "retry": "never",
            "children": {"memory_limit": "512MB"},
        },
    }
    pools = {"communication": {"processes": scene.processes, "grace": "5s"}}
    return {
        "redis": {"url": redis},
        "http": {"port": 0},
        "log": {"format": "json"},
        "tracing": {"enabled": False},
        "pools": {**pools, "hostile": {"grace": "5s"}} if scene.own_pool else pools,
        "queues": {"email-send": mails, "hostile": hostile},
    }
