"""The processes of the pools: started, heard, restarted, replaced, killed. What is decided is pure and apart."""

from __future__ import annotations
