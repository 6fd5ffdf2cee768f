"""Fleet: workers that consume BullMQ queues beside a Node.js stack. How a job flows: workers/README.md."""

from __future__ import annotations
