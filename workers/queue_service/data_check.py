"""New data for a job, as they are stored; what its task type or its queue would not accept is refused before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from config.schema import QueueConfig
from tasks import TASKS
from tasks.base import Task
from tasks.codec import WireError, decode
from tasks.limits import Limits
from workers.broker.result import clean
from workers.queue_service.errors import InvalidRequestError

#: Bytes of the largest data of a queue that the configuration does not have.
MAX_DATA = 4 * 2**20
#: Characters of a refusal that are shown.
MAX_TOLD = 1000


class DataCheck:
    """What the queues' workers accept.

    Args:
        queues: the configured ones.
        types: the models of what `data.type` names; those of queues of one's own beside ours.
    """

    def __init__(self, queues: Mapping[str, QueueConfig], types: Mapping[str, type[Task]] = TASKS) -> None:
        self._queues = queues
        self._types = types

    def text(self, queue: str, data: Any, *, before: Any = None) -> str:
        """The data as JSON, in the form that Node writes.

        Args:
            before: the data that they replace. What was no task of a type that is known here may stay so.

        Raises:
            InvalidRequestError: they are no JSON, too large or too deep, or not what their type says; the field is the
                path of what is wrong: `data.to`.
        """
        text = self._written(queue, data)
        entry = self._queues.get(queue)
        limits = Limits() if entry is None else Limits(max_depth=entry.max_depth, max_chars=entry.max_chars)
        if isinstance(data, dict) and (beyond := limits.exceeded(data)) is not None:
            raise _refused(queue, str(beyond))
        named = _type(data)
        if named in self._types or named != _type(before):
            try:
                decode(data, self._types, limits=limits)
            except WireError as error:
                raise _refused(queue, str(error)) from error
        return text

    def _written(self, queue: str, data: Any) -> str:
        try:
            text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
            size = len(text.encode())
        except UnicodeEncodeError:  # half a character: JSON can carry it only escaped
            text = json.dumps(data, separators=(",", ":"), allow_nan=False)
            size = len(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refused(queue, f"data: no JSON ({error})") from error
        entry = self._queues.get(queue)
        limit = MAX_DATA if entry is None else entry.max_data
        if size > limit:
            raise _refused(
                queue, f"data: {size:,} bytes, more than the {limit:,} that queue {queue} accepts (max_data)"
            )
        return text


def _refused(queue: str, why: str) -> InvalidRequestError:
    """Of a message that begins with the path of what is wrong: `data.to: expected a list`."""
    path, _, text = why.partition(": ")
    return InvalidRequestError(path, clean(text, MAX_TOLD), queue=queue)


def _type(data: Any) -> str | None:
    """What `data.type` says; None: it is no task's."""
    said = data.get("type") if isinstance(data, dict) else None
    return said if isinstance(said, str) else None
