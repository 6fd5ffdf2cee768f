"""The wire's schema: every task in JSON Schema, TypeScript and AnyTask's stub, and whether two versions go together.

All of it is pure and needs `tasks` alone, so it lies in the lowest layer; it isn't in `tasks`, since producers in
Python, who install that without anything else, have no use for it.
"""

from __future__ import annotations
