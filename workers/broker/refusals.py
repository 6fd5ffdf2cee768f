"""What a server's or a script's "no" means: is the job still ours, and can sending again help?"""

from __future__ import annotations

from bullmq.error_code import ErrorCode
from redis.exceptions import DataError, RedisError, ResponseError

_SAID_CODES = {
    ErrorCode.JobPendingDependencies.value: "it has children that are not done",
    ErrorCode.JobHasFailedChildren.value: "at least one of its children failed",
}
_LOST_CODES = {
    ErrorCode.JobNotExist.value: "the job no longer exists",
    ErrorCode.JobLockNotExist.value: "its lock expired",
    ErrorCode.JobNotInState.value: "it is no longer active",
    ErrorCode.JobLockMismatch.value: "another worker holds its lock",
}

#: What NOPERM is outside of scripts, in Valkey's words and in those of Redis 7.0.
_DENIED = ("ACL failure in script", "The user executing the script can't")
#: Answers of a server that can't write now; inside a script they come with the script's name, as its own errors do.
_PASSING = (
    *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN"),
    "Script attempted to access a non local key",  # a cluster is moving the queue's slot key by key
    *_DENIED,
)
#: What other answers say when the same request would get them again: a broken script, a wrong key, a value too large.
_LASTING = ("user_script", "WRONGTYPE", "Protocol error")


class RefusedError(Exception):
    """A script ran and refused the ending; `code` is the Lua script's."""

    def __init__(self, code: int, job_id: str) -> None:
        super().__init__(f"job {job_id}: {_SAID_CODES.get(code, f'the script answered {code}')}")
        self.code = code

    @property
    def lost(self) -> str | None:
        """Why the job is no longer ours, or None if it still is."""
        return _LOST_CODES.get(self.code)


def is_denied(error: Exception) -> bool:
    """Whether a command inside of a script is not permitted to the user."""
    return str(error).startswith(_DENIED)


def may_pass(error: Exception) -> bool:
    """Whether sending again can help: a lost connection can come back, a server that is full or read-only recover.

    A Lua script that broke on what it found breaks again, and so does our own code on what it could not send.
    """
    if type(error) is ResponseError:  # a subclass stands for the server's state: full, read-only, no permission
        text = str(error)
        return text.startswith(_PASSING) or not any(sign in text for sign in _LASTING)
    return isinstance(error, RedisError | OSError) and not isinstance(error, DataError)
