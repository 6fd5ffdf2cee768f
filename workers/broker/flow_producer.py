"""Adding a flow: a tree of jobs over any queues, all of it or nothing, each in its parent's trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workers.broker import producer_span
from workers.broker.add_script import Placed
from workers.broker.backend import now_ms
from workers.broker.hold import Parent
from workers.broker.new_job import NewJob
from workers.broker.producer import JobAdder


@dataclass(frozen=True, slots=True)
class Node:
    """A job that waits for others."""

    job: NewJob
    """With an id, where it has children; `has_children` and `parent` are set here."""
    children: Sequence[Node] = ()


async def place_flow(adder: JobAdder, root: Node) -> list[Placed]:
    """Add a tree; what became of each node, a parent before its children, as they are listed.

    A node that is there already has brought its children with it: none of them is added, and their job ids are empty
    here. So a flow with ids of its own may be added again, as after a lost reply.

    Raises:
        NodeRefusedError: one of them can't be added, so none was; says which.
        NotSentError, ReplyLostError, redis.exceptions.RedisError: Redis did not take it, or did not say so.
    """
    jobs: list[NewJob] = []
    above: list[int] = []

    def gather(node: Node, parent: int) -> None:
        job = node.job
        with producer_span.adding_node(job.queue, job.name, job.id) as span:
            of = None if not parent else Parent(jobs[parent - 1].id, f"{adder.prefix}:{jobs[parent - 1].queue}")
            opts = producer_span.joined(span, job.opts)
            jobs.append(replace(job, opts=opts, parent=of, has_children=bool(node.children)))
            above.append(parent)
            number = len(jobs)
            for child in node.children:
                gather(child, number)

    with producer_span.adding_flow(root.job.queue, root.job.name):
        gather(root, 0)
        return await adder.script.add_tree(jobs, above, now_ms())
