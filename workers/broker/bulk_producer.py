"""Adding many jobs: by hundreds in one step, in one trace for each queue, and knowing how far it got."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from opentelemetry.trace import Span

from workers.broker import producer_span
from workers.broker.add_script import Answer, NodeRefusedError
from workers.broker.backend import now_ms
from workers.broker.client import NotSentError
from workers.broker.new_job import NewJob
from workers.broker.producer import JobAdder

#: The most of one step, during which Redis does nothing else: some 10 ms. One job may be larger.
MAX_JOBS, MAX_CHARS = 200, 1_000_000


class BulkBrokenError(Exception):
    """The adding of many jobs broke off; its cause is what Redis said, or didn't."""

    def __init__(self, answers: list[Answer], doubtful: int) -> None:
        super().__init__(f"it broke off after {len(answers)} jobs")
        self.answers = answers
        """Of the first jobs: what became of them."""
        self.doubtful = doubtful
        """So many of the next ones may have been added, or not; the rest was not."""


async def place_all(adder: JobAdder, jobs: Sequence[NewJob]) -> list[Answer]:
    """Add these jobs in their order; an answer for each.

    Raises:
        NodeRefusedError: the options of one can't be written; it and what follows it was not added.
        BulkBrokenError: Redis did not take a part of them, or did not say so.
    """
    with ExitStack() as stack:
        carried = {queue: producer_span.carried(span) for queue, span in _spans(jobs, stack).items()}
        conveyor = _Conveyor(adder)
        try:
            for part in _parts(jobs):
                await conveyor.put([_joined(job, carried[job.queue]) for job in part])
            return await conveyor.empty()
        finally:
            await conveyor.stop()


class _Conveyor:
    """Writes one part while Redis adds the one before it."""

    def __init__(self, adder: JobAdder) -> None:
        self._adder = adder
        self._answers: list[Answer] = []
        self._sending: asyncio.Task[list[Answer]] | None = None
        self._size = 0

    async def put(self, part: Sequence[NewJob]) -> None:
        """Send this part as soon as the one before is answered. Raises what `place_all` does."""
        try:
            ready = await self._adder.script.prepare(part, now_ms())
        except NodeRefusedError as error:
            before = len(await self.empty())
            raise NodeRefusedError(str(error), error.node + before) from error
        await self.empty()
        self._size = len(part)
        self._sending = asyncio.get_running_loop().create_task(self._adder.script.send(ready))

    async def empty(self) -> list[Answer]:
        """What all that was put was answered."""
        if self._sending is not None:
            try:
                self._answers += await self._sending
            except Exception as error:
                raise BulkBrokenError(self._answers, 0 if isinstance(error, NotSentError) else self._size) from error
            finally:
                if self._sending.done():
                    self._sending = None
        return self._answers

    async def stop(self) -> None:
        """Leave nothing behind."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})


def _spans(jobs: Sequence[NewJob], stack: ExitStack) -> dict[str, Span]:
    """One for each queue, open until the stack is left."""
    names: dict[str, list[str]] = {}
    for job in jobs:
        names.setdefault(job.queue, []).append(job.name)
    return {queue: stack.enter_context(producer_span.adding_bulk(queue, each)) for queue, each in names.items()}


def _joined(job: NewJob, carrier: str | None) -> NewJob:
    if carrier is None or "tm" in job.opts or job.opts.get("omc"):
        return job
    return replace(job, opts={**job.opts, "tm": carrier})


def _parts(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Runs of jobs that are added in one step."""
    start = chars = 0
    for place, job in enumerate(jobs):
        size = len(job.data)
        if place > start and (place - start == MAX_JOBS or chars + size > MAX_CHARS):
            yield jobs[start:place]
            start, chars = place, 0
        chars += size
    if start < len(jobs):
        yield jobs[start:]
