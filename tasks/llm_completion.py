"""The task of a chat reply: one answer of a bot to one message, in queue `llm-completion`."""

from __future__ import annotations

from typing import Literal

from tasks.allocation import Allocation
from tasks.base import Part, Task
from tasks.execution_options import ExecutionOptions
from tasks.many import Many
from tasks.session_user import SessionUser
from tasks.task_context import TaskContext


class RespondingBot(Part):
    """The bot that is to answer, by one of its names."""

    id: str | None = None
    public_id: str | None = None
    handle: str | None = None


class LlmCompletion(Task):
    """One answer. Older producers say nothing of attachments, bounds and options."""

    type: Literal["llm-completion"] = "llm-completion"
    chat_id: str
    message_id: str
    """The message that is answered."""
    user_data: SessionUser
    model: str | None = None
    task_contexts: Many[TaskContext] | None = None
    responding_bot: RespondingBot | None = None
    """None: whoever of the chat's bots is spoken to."""
    allocation: Allocation | None = None
    options: ExecutionOptions | None = None
