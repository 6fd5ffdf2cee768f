"""A module's opinion of an exception, asked so that nothing it does hurts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from workers.contract import Verdict
from workers.runtime import retry

log = logging.getLogger(__name__)


def classified(error: Exception, classify: Callable[[Exception], Verdict]) -> Verdict:
    """What an exception means for its job. A `classify` that fails has said nothing."""
    return retry.verdict_of(error, partial(_asked, classify))


def _asked(classify: Callable[[Exception], Verdict], error: Exception) -> Verdict:
    try:
        verdict: object = classify(error)
    except BaseException:  # a SystemExit would go through the loop
        log.exception("a module's classify failed; the failure counts as one that it does not know")
        return Verdict()
    if isinstance(verdict, Verdict):
        return verdict
    log.error("a module's classify returned %s, no Verdict; the failure may be retried", type(verdict).__name__)
    return Verdict()
