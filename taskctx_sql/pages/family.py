"""The tree of tasks that a task is in: its parents, itself, and the tasks that it handed to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from taskctx_sql.model import PARENT, ContextKey
from taskctx_sql.model.tree_rows import TreeNode
from taskctx_sql.pages.steps import Step
from taskctx_sql.stores import Store

# How many tasks of a tree are shown, those around the task, and how many are read, for the sums.
MAX_NODES: Final = 100
MAX_READ: Final = 500


@dataclass(frozen=True, slots=True)
class Family:
    """A tree.

    Attributes:
        key: The task.
        nodes: The tasks of the tree, each after its parent: all of them, or those around the task.
        count: How many were read.
        is_cut: Whether there are more than those, which the sums do not have.
    """

    key: ContextKey
    nodes: Sequence[TreeNode]
    count: int
    is_cut: bool = False

    @property
    def is_alone(self) -> bool:
        """Whether the task has neither a parent nor sub-tasks."""
        return self.count <= 1

    @property
    def has_sub_tasks(self) -> bool:
        """Whether other tasks are below the task."""
        return any(node.parent == self.key for node in self.nodes)

    @property
    def cost(self) -> float:
        """What the task and all tasks below it cost."""
        return next((node.cost for node in self.nodes if node.key == self.key), 0.0)

    def sub_tasks(self) -> list[Step]:
        """Return the tasks right below the task as steps of its waterfall."""
        return [
            Step(
                "task",
                node.title or node.key.chat_id,
                node.started_at,
                None if node.own_outcome == "unfinished" else node.ended_at,
                node.own_outcome or "completed",
                chat_id=node.key.chat_id,
            )
            for node in self.nodes
            if node.parent == self.key and not node.is_missing
        ]


async def collect_family(store: Store, key: ContextKey, labels: Mapping[str, str]) -> Family:
    """Return the tree that a task with these labels is in."""
    if PARENT not in labels and not await store.contexts(key.user_id, labels={PARENT: key.chat_id}, limit=1):
        return Family(key, (), 1)
    nodes = await store.reports.tree(key, limit=MAX_READ)
    is_cut = len(nodes) == MAX_READ or (bool(nodes) and nodes[0].parent is not None)
    if len(nodes) <= MAX_NODES:
        return Family(key, nodes, len(nodes), is_cut)
    place = next((place for place, node in enumerate(nodes) if node.key == key), 0)
    above = _above(nodes, place)
    # Its parents, itself, and what comes after it in the tree, which its own sub-tasks do first.
    return Family(key, [*above, *nodes[place : place + MAX_NODES - len(above)]], len(nodes), is_cut)


def _above(nodes: Sequence[TreeNode], place: int) -> list[TreeNode]:
    """Return the parents of a node, the root first."""
    by_key = {node.key: node for node in nodes}
    above: list[TreeNode] = []
    parent = nodes[place].parent
    while parent is not None and len(above) < MAX_NODES // 2 and (node := by_key.get(parent)) is not None:
        above.insert(0, node)
        parent = node.parent
    return above
