# Generated from the models in tasks/ by `fleet schema python --write`; not edited by hand.

from typing import TypeAlias

from tasks.email_send import EmailSend
from tasks.export_user_data import ExportUserData
from tasks.import_user_data import ImportUserData
from tasks.llm_completion import LlmCompletion
from tasks.notification_create import NotificationCreate
from tasks.push_notification import PushNotification
from tasks.run_start import RunStart
from tasks.sandbox_execution import SandboxExecution
from tasks.sms_message import SmsMessage
from tasks.swarm_execution import SwarmExecution

AnyTask: TypeAlias = (
    EmailSend
    | ExportUserData
    | ImportUserData
    | LlmCompletion
    | NotificationCreate
    | PushNotification
    | RunStart
    | SandboxExecution
    | SmsMessage
    | SwarmExecution
)
