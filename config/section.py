"""What all mappings of fleet.yaml have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping in fleet.yaml."""

    # Inputs may hold secrets; the loader names them with care, pydantic's own message would print them.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)
