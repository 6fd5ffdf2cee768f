"""SIGHUP: a supervisor reads its configuration again. Nothing that it may find there ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from config.errors import ConfigError
from config.loader import LoadedConfig
from config.schema import FleetConfig
from workers.fleet import SelectionError, check_options
from workers.runtime.supervision.reload import Reload

log = logging.getLogger(__name__)


def survive() -> None:
    """Until somebody listens: what comes during the start is forgotten, and kills nobody. Under `nohup` it is ignored
    anyway.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: None)


class Hangup:
    """Listens for SIGHUP on the running loop. Under `nohup` it stays ignored.

    Args:
        on_hangup: called for each, on the loop.
    """

    def __init__(self, on_hangup: Callable[[], None]) -> None:
        self._installed = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        if self._installed:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)

    def close(self) -> None:
        """Ignore it from now on: whoever is ending must not die of it."""
        if self._installed:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def ignored(why: str) -> Callable[[], None]:
    """What to do on SIGHUP where there is nothing to reload: say why."""
    return lambda: log.warning("SIGHUP is ignored: %s", why)


class Reloader:
    """Reads the configuration when it is asked to, one time after the other.

    Args:
        read: reads files, overlays, environment and command line as at start; raises ConfigError.
        localize: puts in what only this run knows, the address of its embedded server.
        reload: lets the configuration take effect.
    """

    def __init__(
        self, read: Callable[[], LoadedConfig], localize: Callable[[FleetConfig], FleetConfig], reload: Reload
    ) -> None:
        self._read = read
        self._localize = localize
        self._reload = reload
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read it now, or once more after the time that is under way."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="reload")

    async def close(self) -> None:
        """Read it no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._asked:
            self._asked = False
            log.info("SIGHUP: reading the configuration again")
            try:
                await self._once()
            except (ConfigError, SelectionError) as error:
                problem = "; ".join(str(error).splitlines())
                log.error("reload refused, the former configuration stays in force: %s", problem)
                self._reload.refuse(problem)
            except Exception as error:
                log.exception("reload failed, the former configuration stays in force")
                self._reload.refuse(type(error).__name__)

    async def _once(self) -> None:
        loaded = await asyncio.to_thread(self._checked)
        result = self._reload.apply(self._localize(loaded.config))
        log.info("reload applied: %s", result.roll)
        if result.later:
            log.warning(
                "reload: these have changed and take effect at the next start only: %s", ", ".join(result.later)
            )

    def _checked(self) -> LoadedConfig:
        loaded = self._read()
        if issues := check_options(loaded):
            raise ConfigError(issues)
        return loaded
