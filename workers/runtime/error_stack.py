"""The stack of an exception, as it is kept. Child processes import this file, and nothing that knows Redis with it."""

from __future__ import annotations

import traceback

#: Frames of a stack, and characters in all.
STACK_FRAMES, MAX_STACK = 30, 16_384


def error_stack(error: BaseException, frames: int = STACK_FRAMES, most: int = MAX_STACK) -> str:
    """The last frames, in at most so many characters; empty where the exception can't be looked at."""
    try:
        return shortened("".join(traceback.format_exception(error, limit=-frames)), most)
    except Exception:  # an exception with attributes of its own making
        return ""


def shortened(text: str, most: int) -> str:
    """Of a stack that is too long the end, because that names the error."""
    return text if len(text) <= most else "…" + text[1 - most :]
