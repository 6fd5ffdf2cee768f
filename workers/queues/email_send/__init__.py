"""Queue `email-send`: sends one mail by SMTP. README.md beside this file lists options and failure rules."""

from __future__ import annotations

from tasks.email_send import EmailSend
from workers.contract import QueueModule
from workers.queues.email_send.options import EmailOptions
from workers.queues.email_send.processor import open_email

__all__ = ["MODULE"]

MODULE = QueueModule(task=EmailSend, options=EmailOptions, open=open_email)
