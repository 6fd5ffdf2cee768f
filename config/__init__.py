"""Configuration: fleet.yaml read into frozen models, every value with its origin. A leaf: imports nothing of ours."""

from __future__ import annotations
