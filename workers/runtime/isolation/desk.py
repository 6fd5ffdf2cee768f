"""Answers what a run asks whose processor is elsewhere, in a thread or a child: by name, on the loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from workers.contract import Effect, JobContext
from workers.contract.effect import EffectState


@dataclass(frozen=True, slots=True)
class Reserved:
    """The answer to `reserve`: an effect that stays reserved until `leave`."""

    number: int
    """By which `settle` and `leave` name it."""
    state: EffectState
    result: Any


class Desk:
    """The calls of one run.

    Args:
        context: the run's.
    """

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._effects: dict[int, _OpenEffect] = {}
        self._numbers = itertools.count(1)

    async def answer(self, do: str, arguments: Sequence[Any]) -> Any:
        """Do what is asked: progress, log, checkpoint, add, children_values, children_failures, reserve, settle, leave.

        Raises what JobContext's method of that name raises.

        Raises:
            TypeError, ValueError: there is no such call, or it takes other arguments.
        """
        match do:
            case "progress" | "log" | "checkpoint" | "children_values" | "children_failures":
                return await getattr(self._context, do)(*arguments)
            case "add":
                task, child, priority, urgency, delay_s = arguments
                return await self._context.add(task, child=child, priority=priority, urgency=urgency, delay_s=delay_s)
            case "reserve":
                return await self._reserve(*arguments)
            case "settle":
                number, result = arguments
                return await self._effect(number).settle(result)
            case "leave":
                number, error = arguments
                return await self._effects.pop(self._effect(number).number).leave(error)
        raise ValueError("no such call")

    def close(self) -> None:
        """The run is over: effects that it has not left are left as those of a run that was cancelled."""
        for effect in self._effects.values():
            effect.abandon()
        self._effects.clear()

    async def _reserve(self, name: str) -> Reserved:
        effect = _OpenEffect(next(self._numbers), self._context.once(name))
        self._effects[effect.number] = effect
        try:
            return await effect.reserve()
        except BaseException:
            del self._effects[effect.number]
            effect.abandon()
            raise

    def _effect(self, number: int) -> _OpenEffect:
        if number not in self._effects:
            raise ValueError("the effect is no longer reserved: settle it inside of `with ctx.once(…)`")
        return self._effects[number]


class _OpenEffect:
    """One `async with ctx.once(…)`, entered and left in one task, as context managers may want it."""

    def __init__(self, number: int, manager: AbstractAsyncContextManager[Effect]) -> None:
        self.number = number
        loop = asyncio.get_running_loop()
        self._reserved: asyncio.Future[Effect] = loop.create_future()
        self._leaving: asyncio.Future[Exception | None] = loop.create_future()
        self._task = loop.create_task(self._hold(manager))

    async def reserve(self) -> Reserved:
        either: set[asyncio.Future[Any]] = {self._reserved, self._task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._reserved.done():
            await self._task  # raises why
        effect = self._reserved.result()
        return Reserved(self.number, effect.state, effect.result)

    async def settle(self, result: Any) -> None:
        await self._reserved.result().settle(result)

    async def leave(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Exception):
            self.abandon()
            return
        if not self._leaving.done():
            self._leaving.set_result(error)
        try:
            await self._task
        except Exception as raised:
            if raised is not error:
                raise

    def abandon(self) -> None:
        self._task.cancel()
        self._task.add_done_callback(_see)

    async def _hold(self, manager: AbstractAsyncContextManager[Effect]) -> None:
        async with manager as effect:
            self._reserved.set_result(effect)
            error = await self._leaving
            if error is not None:
                raise error


def _see(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
