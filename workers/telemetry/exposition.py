"""Prometheus text, from a registry or from the files that the processes of a pool share.

The supervisor owns the directory and tells when a process has died. Its gauges vanish; its counters stay, folded into
one file of all the dead, so that a pool that keeps restarting keeps neither files nor lost counts.
"""

# mypy: disable-error-code="no-untyped-call"
# (the multiprocess part of prometheus_client has no annotations)

from __future__ import annotations

import json
import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import Metric, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

#: Of both expositions: Prometheus text format 0.0.4.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: The name that `prometheus_client` takes as the process id in the files of the dead.
_DEAD = "dead"
_KINDS = ("counter", "histogram", "summary")
_UNREADABLE = (ValueError, TypeError, RecursionError, struct.error)
_TRIES = 3
#: A scrape must not see a dead process both in its own file and in that of the dead.
_folding = threading.Lock()


def exposition(registry: Collector) -> bytes:
    """The metrics of one process, as Prometheus text."""
    return generate_latest(registry)


def merged_exposition(directory: Path) -> bytes:
    """The metrics of all processes that write to `directory` (PROMETHEUS_MULTIPROC_DIR), as Prometheus text.

    Never raises: a file that can't be read is left out and counted in `fleet_metrics_files_unreadable`. Reads files:
    call it in a thread where a loop runs.
    """
    with _folding:
        for _ in range(_TRIES):
            try:
                return exposition(_Merged(*_readable(directory)))
            except Exception as error:  # a file changed or vanished between the check and the merge
                log.debug("the metrics in %s changed while they were read: %r", directory, error)
    log.warning("the metrics in %s could not be merged", directory)
    return exposition(_Merged([], 1))


def forget_process(directory: Path, pid: int) -> None:
    """Take a dead process out of `directory`: its gauges vanish, its counts are kept.

    Call it before another process starts, which may get the same id. Never raises; legal twice.
    """
    with _folding:
        try:
            for gauge in directory.glob(f"gauge_live*_{pid}.db"):
                gauge.unlink(missing_ok=True)
            for kind in _KINDS:
                _fold(directory / f"{kind}_{pid}.db", directory / f"{kind}_{_DEAD}.db")
        except Exception:
            log.warning("the metrics of process %d could not be folded", pid, exc_info=True)


def _fold(source: Path, target: Path) -> None:
    """Add the values of one file to another; whoever reads sees the old target or the new one, never a part."""
    try:
        values = _values(source)
    except FileNotFoundError:
        return
    except _UNREADABLE:
        log.warning("%s is unreadable; its counts are lost", source.name)
        source.unlink()
        return
    with suppress(FileNotFoundError, *_UNREADABLE):
        for key, value in _values(target).items():
            values[key] = values.get(key, 0.0) + value
    unfinished = target.with_suffix(".tmp")
    unfinished.unlink(missing_ok=True)
    file = MmapedDict(str(unfinished))
    for key, value in values.items():
        file.write_value(key, value, 0.0)
    file.close()
    unfinished.replace(target)
    source.unlink()


class _Merged(Collector):
    """The sum over files, in the shape that `generate_latest` takes."""

    def __init__(self, files: list[str], unreadable: int) -> None:
        self._files = files
        self._unreadable = unreadable

    def collect(self) -> Iterator[Metric]:
        yield from multiprocess.MultiProcessCollector.merge(self._files)
        yield GaugeMetricFamily(
            "fleet_metrics_files_unreadable", "Files of processes left out of this scrape.", self._unreadable
        )


def _readable(directory: Path) -> tuple[list[str], int]:
    """The files that can be merged, and how many can't."""
    files, bad = [], 0
    for path in sorted(directory.glob("*.db")):
        try:
            if path.stat().st_size == 0:
                continue  # its process is just creating it
            _values(path)
        except FileNotFoundError:
            continue  # its process was forgotten just now
        except (OSError, *_UNREADABLE):
            bad += 1
        else:
            files.append(str(path))
    return files, bad


def _values(path: Path) -> dict[str, float]:
    """Key and value of each entry. The format is in `prometheus_client.mmap_dict`; its own reader trusts lengths.

    Raises:
        OSError: can't be read.
        ValueError, TypeError, RecursionError, struct.error: not such a file, or cut.
    """
    kind, *rest = path.name.removesuffix(".db").split("_")
    if len(rest) != (2 if kind == "gauge" else 1) or kind not in ("gauge", *_KINDS):
        raise ValueError("not a file of metrics")
    data = path.read_bytes()
    if not data:
        return {}
    used = struct.unpack_from("i", data, 0)[0]
    if not 0 <= used <= len(data):
        raise ValueError("cut short")
    values: dict[str, float] = {}
    position = 8
    while position < used:
        length = struct.unpack_from("i", data, position)[0]
        start = position + 4
        value_at = start + length + 8 - (length + 4) % 8  # the key is padded to a multiple of 8
        if length <= 0 or value_at + 16 > used:
            raise ValueError("an entry runs over the end")
        key = data[start : start + length].decode("utf-8")
        _name, _sample, labels, _help = json.loads(key)
        if not isinstance(labels, dict):
            raise ValueError("an entry has no labels")
        values[key] = struct.unpack_from("d", data, value_at)[0]
        position = value_at + 16
    return values
