"""What operators and Kubernetes see: health, and later inspection and control."""

from __future__ import annotations
