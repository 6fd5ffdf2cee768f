"""One ending on its way into Redis: through lost connections, until Redis agrees or says that the job is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, Fetched, FleetBackend
from workers.broker.client import NotSentError
from workers.broker.endings import Completed, Ending, Failed, Lost
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.refusals import RefusedError, may_pass
from workers.broker.result import dump, message
from workers.broker.settle import settle


class UnstorableResultError(Exception):
    """A result that JSON can't carry; a placeholder is stored."""


def stored(ending: Ending, job: Activation, on_error: Callable[[BaseException, str, str], None]) -> Ending:
    """The ending with its result as it is stored. One that JSON can't carry is stored as a placeholder that says so,
    and `on_error` is told; the job stays a success.
    """
    if not isinstance(ending, Completed):
        return ending
    text, problem = dump(ending.result)
    if problem is not None:
        on_error(UnstorableResultError(problem), "result", job.id)
    return replace(ending, text=text)


class Finish:
    """Writes the ending of one job.

    Args:
        on_error: told every failure on the way: the error, where, the job's id.
        on_up: called when Redis has answered after a failure.
        reconnect: the waits between tries while Redis is away.
    """

    def __init__(
        self,
        backend: FleetBackend,
        job: Activation,
        ending: Ending,
        on_error: Callable[[BaseException, str, str], None],
        on_up: Callable[[], None],
        reconnect: Reconnect = RECONNECT,
    ) -> None:
        self._backend = backend
        self._reconnect = reconnect
        self._job = job
        self._ending = ending
        self._on_error = on_error
        self._on_up = on_up
        self._failures = 0

    async def write(self, fetch_next: Callable[[], bool]) -> tuple[Ending, Fetched]:
        """The ending that the job has in the end, and what was fetched with it. Raises only when cancelled.

        `fetch_next` is asked before each try whether the slot wants another job.
        """
        sent_again = False
        while True:
            try:
                fetched = await self._backend.finish(self._job, self._ending, fetch_next=fetch_next())
                return self._ending, fetched
            except RefusedError as error:
                if error.lost is None:
                    self._on_error(error, "finish", self._job.id)
                    self._ending = self._instead(error)
                    continue
                if not sent_again:
                    return Lost(reason=error.lost), Fetched()
                doubt: Exception = error  # the first one may have arrived after we had looked
            except NotSentError as error:
                self._on_error(error, "finish", self._job.id)
                await self._pause(error)
                continue
            except Exception as error:
                self._on_error(error, "finish", self._job.id)
                doubt = error
                await self._pause(error)
            found = await self._look(doubt)
            if found is not None:
                return found
            if not may_pass(doubt):
                self._ending = self._instead(doubt)
            sent_again = True

    async def _look(self, doubt: Exception) -> tuple[Ending, Fetched] | None:
        """What became of the ending; None: nothing, and the job is still ours."""
        while True:
            try:
                await self._backend.bury(doubt)
                settled = await settle(self._backend, self._job, self._ending)
                break
            except Exception as error:
                self._on_error(error, "finish", self._job.id)
                if not may_pass(error):  # looking is what broke; it would again
                    reason = f"what became of it can't be told: {message(error, MAX_REASON)}"
                    return Lost(reason=reason), Fetched()
                await self._pause(error)
        self._on_up()
        if settled.applied:
            return self._ending, Fetched(activation=settled.next_job)
        if settled.ours and not isinstance(doubt, RefusedError):
            return None
        return Lost(reason=f"its lock was lost ({message(doubt, MAX_REASON)})"), Fetched()

    async def _pause(self, error: Exception) -> None:
        if may_pass(error):
            self._failures += 1
            await asyncio.sleep(self._reconnect.wait_s(self._failures))

    def _instead(self, error: Exception) -> Ending:
        """Redis will never take this ending (a corrupt row, pending children): say so in the job, else let go."""
        said = message(error, MAX_REASON)
        if isinstance(self._ending, Failed):
            return Lost(reason=f"its failure could not be written: {said}")
        name = type(self._ending).__name__.lower()
        return Failed(reason=f"could not be ended as {name}: {said}", error="Refused")
