"""The producers of the Node stack (node-stack, sections 1.6 and 1.7): what each puts into `data`, and the priority it
sets. OLD: its code until June 2025. DOC: the seed's own examples.

Written by hand from the shapes of section 1.4, beside the examples, which have only some of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: What Node's clock, snowflakes and nanoids look like.
WHEN = "2025-08-02T12:00:00.000Z"
USER_ID, PREMIUM_ID, NANOID = "614402117730301", "614402117730777", "q9w8e7r6t5y4"


@dataclass(frozen=True)
class Producer:
    """One way in which Node adds a job."""

    name: str
    data: dict[str, Any]
    priority: int = 0
    """The job's own priority as Node sets it. 0: none."""
    job_id: str | None = None
    """The id under which Node's addTask adds it; None: the raw add, which leaves it to BullMQ."""


def user(*, premium: bool = False) -> dict[str, Any]:
    """A session's user."""
    return {
        "__typename": "SessionUser",
        "id": PREMIUM_ID if premium else USER_ID,
        "publicId": "k3j9x0ab12cd",
        "name": "Dana Reyes",
        "handle": None,
        "credits": "98000000",
        "creditAccountId": None,
        "creditSettings": None,
        "hasPremium": premium,
        "hasReceivedPhoneVerificationReward": True,
        "languages": ["en"],
        "phoneNumberVerified": True,
        "profileImage": None,
        "theme": "dark",
        "session": {"__typename": "SessionUserSession", "id": "614402117730999", "lastRefreshAt": WHEN},
        "updatedAt": WHEN,
    }


def allocation(amount: str, duration_ms: int, memory_mb: int, steps: int) -> dict[str, Any]:
    """Bounds."""
    return {
        "maxCredits": amount,
        "maxDurationMs": duration_ms,
        "maxMemoryMB": memory_mb,
        "maxConcurrentSteps": steps,
    }


def mail(name: str, task_id: str) -> Producer:
    """A mail, rendered by its producer."""
    data = {"type": "email-send", "id": task_id, "to": ["dana@example.com"], "subject": name, "text": name, "html": ""}
    return Producer(name, data, job_id=task_id)


def completion(name: str, task_id: str, *, premium: bool = False) -> Producer:
    """A chat reply: the queue's default priority."""
    data = {
        "type": "llm-completion",
        "id": task_id,
        "chatId": "614402117800001",
        "messageId": "614402117800555",
        "taskContexts": [],
        "userData": user(premium=premium),
        "allocation": allocation("200" if premium else "100", 60_000, 256, 1),
        "options": {
            "priority": "high" if premium else "medium",
            "timeout": 60_000,
            "retryPolicy": {"maxRetries": 3, "backoffMs": 1000, "backoffMultiplier": 2, "maxBackoffMs": 30_000},
        },
    }
    return Producer(name, data, 50, f"task-{task_id}")


def old_completion(name: str, task_id: str, **said: Any) -> Producer:
    """A chat reply without allocation and options."""
    data = completion(name, task_id).data
    data = {key: value for key, value in data.items() if key not in ("allocation", "options", "taskContexts")}
    return Producer(name, data | said, 50, f"task-{task_id}")


def template_mail(name: str, key: str, **said: Any) -> Producer:
    """A mail made from a template: the seed's IdempotentEmailTask, which has a key for an id."""
    content = {"template": "welcome", "data": {"name": "Dana"}}
    data = {"type": "email-send", "idempotencyKey": key, "to": ["dana@example.com"], **content}
    return Producer(name, data | said, job_id=key)


def swarm(name: str, task_id: str, bounds: dict[str, Any], *, premium: bool = False, parent: bool = False) -> Producer:
    """A swarm in its newest shape."""
    context = {"swarmId": "614402200002001", "userData": user(premium=premium), "timestamp": WHEN}
    if parent:
        context["parentSwarmId"] = "614402200002000"
    wanted = {
        "goal": "Collect competitor prices",
        "swarmId": "614402200002001",
        "executionConfig": {"model": "gpt-4o", "temperature": 0.7, "parallelExecutionLimit": 3},
        "userData": user(premium=premium),
    }
    head = {"type": "swarm-execution", "id": task_id, "status": "Scheduled"}
    data = {**head, "context": context, "input": wanted, "allocation": bounds}
    return Producer(name, data, 80 if premium else 100, f"task-{task_id}" if task_id.isdigit() else task_id)


def run(name: str, task_id: str, bounds: dict[str, Any], run_from: str, priority: int, **said: Any) -> Producer:
    """A run in its newest shape. What is said: premium, timeSensitive, isNewRun."""
    person = user(premium=said.get("premium", False))
    data = {
        "type": "run-start",
        "id": task_id,
        "status": "Scheduled",
        "context": {"swarmId": "614402200002001", "userData": person, "timestamp": WHEN},
        "input": {
            "runId": "614402200004002",
            "resourceVersionId": "614402118000011",
            "config": {"botConfig": {}, "isPrivate": False, "isTimeSensitive": said.get("timeSensitive", False)},
            "formValues": {"q": "prices"},
            "isNewRun": said.get("isNewRun", True),
            "runFrom": run_from,
            "startedById": person["id"],
            "status": "Scheduled",
        },
        "allocation": bounds,
    }
    return Producer(name, data, priority, f"task-{task_id}" if task_id.isdigit() else task_id)


def old_run(name: str, task_id: str, run_from: str, priority: int, **said: Any) -> Producer:
    """A run with everything at the top, and no bounds. What is said goes there as well."""
    newest = run(name, task_id, {}, run_from, priority).data
    head = {key: newest[key] for key in ("type", "id", "status")}
    data = {**head, **newest["input"], "userData": newest["context"]["userData"], **said}
    return Producer(name, data, priority, f"task-{task_id}" if task_id.isdigit() else task_id)


def _notify(name: str, data: dict[str, Any]) -> Producer:
    return Producer(name, data | {"id": "614402200000001"})


_PUSH = {
    "type": "push-notification",
    "subscription": {"endpoint": "https://push.example.net/wpush/v2/g", "keys": {"p256dh": "BNc", "auth": "tBH"}},
    "payload": {"body": "Run finished", "icon": None, "link": "/run/1", "title": "Run complete"},
}
_NOTE = {"type": "notification-create", "userId": USER_ID, "category": "Run", "title": "", "sendWebSocketEvent": True}
_SMS = {"type": "sms-message", "id": "+15555550123-839201", "to": ["+15555550123"], "body": "839201 is your code"}
_SPAWN, _RICH = allocation("250", 900_000, 256, 3), allocation("1000", 3_600_000, 512, 5)
_START = allocation("50000", 7_200_000, 1024, 10)

PRODUCERS: tuple[Producer, ...] = (
    mail("password reset", "k3j9x0ab12cd:reset-password"),
    mail("email verification", "k3j9x0ab12cd:send-verification-link"),
    mail("Stripe: payment thank you", f"{USER_ID}-payment-thank-you-donation"),
    mail("Stripe: payment failed", f"{USER_ID}-payment-failed"),
    mail("Stripe: credit card expiring", f"{USER_ID}-credit-card-expiring-soon"),
    mail("Stripe: subscription canceled", f"{USER_ID}-subscription-canceled"),
    mail("Stripe: trial ending", f"{USER_ID}:send-trial-ending-soon"),
    mail("cron: expired premium", f"{NANOID}-subscription-canceled"),
    mail("cron: stale payment", f"{NANOID}-payment-failed"),
    Producer("phone verification", _SMS, job_id="+15555550123-839201"),
    _notify("Notify: notification", _NOTE),
    _notify("Notify: push to a device", _PUSH),
    mail("Notify: mail to all addresses", NANOID),
    Producer("test push to a device", _PUSH | {"id": NANOID}, job_id=NANOID),
    completion("chat message with a bot", "614402200001001"),
    completion("chat message, premium", "614402200001003", premium=True),
    completion("chat reply regenerated", "614402200001002"),
    old_completion("OLD: chat message with a bot", "614402200001004"),
    old_completion("OLD: chat message with attachments", "614402200001005", model="gpt-4o", taskContexts=[]),
    old_completion("OLD: chat message to one of several bots", "614402200001006", respondingBot={"handle": "ada"}),
    swarm("start swarm endpoint", "a7k2m9q4x1zb", allocation("10000", 3_600_000, 512, 5)),
    swarm("start swarm endpoint, premium", "a7k2m9q4x1zc", allocation("10000", 3_600_000, 512, 5), premium=True),
    swarm("MCP spawn, simple", "614402200003001", _SPAWN, parent=True),
    swarm("MCP spawn, rich, premium", "614402200003002", _RICH, parent=True, premium=True),
    run("start run endpoint", "q9w8e7r6t5y5", _START, "RunView", 80),
    run("start run endpoint, premium", "q9w8e7r6t5y6", _START, "RunView", 75, premium=True),
    run("start run endpoint, resumed", "q9w8e7r6t5y7", _START, "RunView", 80, isNewRun=False),
    run("MCP run_routine, standalone", "614402200004003", allocation("10000", 3_600_000, 512, 5), "Api", 84),
    run(
        "MCP run_routine, in a swarm, premium, urgent",
        "614402200004001",
        allocation("2000", 1_800_000, 307, 3),
        "Api",
        64,
        premium=True,
        timeSensitive=True,
    ),
    old_run("OLD: start run endpoint", "q9w8e7r6t5y8", "RunView", 80),
    old_run("OLD: start run endpoint, premium", "614402200004005", "RunView", 75, userData=user(premium=True)),
    old_run("OLD: run resumed by its schedule", "q9w8e7r6t5y9", "Schedule", 97, isNewRun=False, formValues={}),
    old_run("OLD: run with nothing but what it needs", "q9w8e7r6t5ya", "Test", 99, config=None, formValues=None),
    template_mail("DOC: mail from a template", "welcome-k3j9x0ab12cd"),
    template_mail("DOC: mail from a template without data", "digest:k3j9x0ab12cd:2025-08", data={}),
    template_mail("DOC: mail from a template, with a subject and an id", "once", id=NANOID, subject="Hello", text=""),
)
