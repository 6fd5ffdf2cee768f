"""A Redis that goes away in the midst of an act: what is known then. Nothing but errors of ours leaves the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers.broker.act_runner import UnfinishedError
from workers.broker.client import NotSentError
from workers.broker.result import message
from workers.queue_service.errors import QueueServiceError, QueueUnavailableError

#: Characters of an error that are shown.
MAX_DETAIL = 300


@contextmanager
def told(queue: str, *, changes: bool = True) -> Iterator[None]:
    """Within it a failure of Redis becomes a QueueUnavailableError that says what is known of the change.

    Args:
        changes: something is to be changed; else it is only looked.
    """
    try:
        yield
    except QueueServiceError:
        raise
    except UnfinishedError as error:
        raise QueueUnavailableError(f"queue {queue}: {_how_far(error)} ({_reason(error)})", queue=queue) from error
    except Exception as error:
        undone = not changes or isinstance(error, NotSentError)
        known = "nothing was changed" if undone else "whether it was done is not known: look before you ask again"
        raise QueueUnavailableError(
            f"queue {queue}: Redis does not answer, {known} ({_reason(error)})", queue=queue
        ) from error


def _how_far(error: UnfinishedError) -> str:
    done = sum(answer.word in ("ok", "asked", "written") for answer in error.done)
    if not error.done and not error.doubtful:
        return "Redis does not answer, nothing was changed"
    if not error.done and not error.left:
        return "Redis does not answer, whether it was done is not known: look before you ask again"
    said = [f"{done:,} jobs were done", f"of {len(error.doubtful):,} it is not known", f"{len(error.left):,} are left"]
    return f"Redis went away: {', '.join(said)}"


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, UnfinishedError) and error.__cause__ is not None else error
    return message(cause, MAX_DETAIL)
