"""The wire's schema: JSON Schema and TypeScript of every task, and whether two versions of it go together.

All of it is pure and needs `tasks` alone, so it lies in the lowest layer; it isn't in `tasks`, since producers in
Python, who install that without anything else, have no use for it.
"""

from __future__ import annotations
