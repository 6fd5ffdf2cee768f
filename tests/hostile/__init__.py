"""A queue module whose jobs misbehave as their data says, for tests of what is around it."""

from __future__ import annotations
