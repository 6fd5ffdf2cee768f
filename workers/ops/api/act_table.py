"""The table of the operations that change something: who may do which."""

from __future__ import annotations

from workers.ops.api import act_operations as acts
from workers.ops.api.operation import Handle, Message, Method, NoBody, Operation
from workers.ops.api.schemas import ANSWERS, named
from workers.queue_service.actor import Role

_QUEUE, _JOB = "/queues/{queue}", "/queues/{queue}/jobs/{job}"


def _act(
    path: str,
    name: str,
    handle: Handle,
    *,
    role: Role = "operator",
    body: type[Message] = NoBody,
    method: Method = "POST",
    problems: tuple[int, ...] = (404, 409),
    answer: str = "act",
) -> Operation:
    return Operation(
        method=method,
        path=path,
        id=name,
        summary=named(handle),
        role=role,
        handle=handle,
        body=body,
        answer=ANSWERS[answer],
        problems=problems,
        tag="act",
    )


ACT: tuple[Operation, ...] = (
    _act(f"{_QUEUE}/pause", "pauseQueue", acts.pause),
    _act(f"{_QUEUE}/resume", "resumeQueue", acts.resume),
    _act(f"{_QUEUE}/drain", "drainQueue", acts.drain, role="admin", body=acts.DrainBody),
    _act(f"{_QUEUE}/clean", "cleanQueue", acts.clean, role="admin", body=acts.CleanBody),
    _act(f"{_QUEUE}/bulk", "actOnJobs", acts.bulk, body=acts.BulkBody),
    _act(f"{_JOB}/retry", "retryJob", acts.retry),
    _act(f"{_JOB}/promote", "promoteJob", acts.promote),
    _act(f"{_JOB}/cancel", "cancelJob", acts.cancel, body=acts.ReasonBody),
    _act(_JOB, "removeJob", acts.remove, method="DELETE"),
    _act(f"{_JOB}/priority", "changePriority", acts.priority, body=acts.PriorityBody, method="PUT"),
    _act(f"{_JOB}/delay", "changeDelay", acts.delay, body=acts.DelayBody, method="PUT"),
    _act(f"{_JOB}/data", "changeData", acts.data, body=acts.DataBody, method="PUT"),
    _act(f"{_JOB}/move", "moveJob", acts.move, body=acts.MoveBody),
    _act(f"{_JOB}/replay", "replayJob", acts.replay, body=acts.ReplayBody),
    _act("/tasks/{task}/status", "changeTaskStatus", acts.status, body=acts.StatusBody, method="PUT", answer="change"),
)
