"""The Active Task Registry: long-running tasks that can be watched, paused, resumed and stopped.

No task type is registered yet; queue modules bring their adapters here.
"""

from __future__ import annotations
