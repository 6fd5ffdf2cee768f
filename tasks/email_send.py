"""The task of queue `email-send`: one mail, rendered by its producer or to be made from a template."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from tasks.base import Task

#: Either the mail or a template that it is made from; empty texts beside one say nothing.
_SCHEMA: Any = {
    "anyOf": [
        {"required": ["subject", "text"], "properties": {"template": {"type": "null"}}},
        {
            "required": ["template"],
            "properties": {
                "template": {"type": "string"},
                "text": {"type": "string", "const": ""},
                "html": {"enum": ["", None]},
            },
        },
    ]
}


class EmailSend(Task):
    """One mail to one or more recipients, who see each other. It has subject and text, or a template."""

    model_config = ConfigDict(json_schema_extra=_SCHEMA)

    type: Literal["email-send"] = "email-send"

    to: Annotated[list[str], Field(min_length=1, fail_fast=True)]
    """Addresses, each alone (`dana@example.com`) or with a name (`Dana <dana@example.com>`). They are checked when
    the mail is sent: a bad one doesn't cost the others their mail."""

    subject: str = ""
    """Beside a template: used instead of the template's own."""

    text: str = ""
    """The plain text; where it is empty, the sender derives it from `html`."""

    html: str | None = None
    """Absent or empty: a mail of plain text alone."""

    template: str | None = None
    """The name of a template; `text` and `html` come from it."""

    data: dict[str, Any] | None = None
    """What the template's placeholders stand for."""

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        given = self.model_fields_set
        if self.template is None:
            wrong = [_error("missing", name) for name in ("subject", "text") if name not in given]
        else:
            wrong = [_error(_BESIDE, name, getattr(self, name)) for name in ("text", "html") if getattr(self, name)]
        if wrong:
            raise ValidationError.from_exception_data("EmailSend", wrong)
        return self


_BESIDE = PydanticCustomError("beside_template", "nothing beside a template")


def _error(kind: str | PydanticCustomError, field: str, value: Any = None) -> InitErrorDetails:
    return InitErrorDetails(type=kind, loc=(field,), input=value)
