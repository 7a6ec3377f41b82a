"""The command ``tree``."""

from __future__ import annotations

import sys
from typing import Any

from taskctx_sql.cli import output, report_columns, tables
from taskctx_sql.cli.options import Opened, context_command, rows_format_option
from taskctx_sql.cli.tables import Column
from taskctx_sql.model import ContextKey
from taskctx_sql.model.tree_rows import TreeNode

# Of the table, beside the tasks.
_SHOWN = ("outcome", "tasks", "cost", "own_cost", "errors", "duration")
_RANKS = {"tasks": 3, "own_cost": 2, "duration": 1}

# Tasks below it are not indented more.
_DEEPEST = 20


@context_command
@rows_format_option
async def tree(key: ContextKey, opened: Opened, form: str) -> None:
    """Print the tree of tasks that a context is in.

    A task is below the one that its label "parent" names. Its outcome, cost, errors and duration are those of
    everything below it, too; "own cost" is its own. A parent that is not there is marked as missing.

    \b
    taskctx tree u1 c1 -d tasks.db
    taskctx label u1 c2 --parent c1
    """
    async with opened as store:
        nodes = await store.reports.tree(key)
    if form == "json":
        output.print_json([_object(node) for node in nodes])
    elif form == "csv":
        objects = [_object(node) for node in nodes]
        output.print_csv(_names(), [list(one.values()) for one in objects])
    else:
        _print_table(key, nodes)
    if not nodes:
        sys.exit(1)


def _print_table(key: ContextKey, nodes: list[TreeNode]) -> None:
    columns = [Column("task", "text", least=24), *(report_columns.column(name, _RANKS.get(name, 0)) for name in _SHOWN)]
    cells = [[_task(node, key), *(report_columns.cell(name, getattr(node, name)) for name in _SHOWN)] for node in nodes]
    remedy = "use a wider terminal, --format json or --format csv"
    tables.print_table(f"tree: {len(nodes):,}", columns, cells, total=None, remedy=remedy)


def _task(node: TreeNode, key: ContextKey) -> str:
    """Return the name of a task, indented; the one that was asked for is marked."""
    name = f"{node.key.chat_id} ({node.title})" if node.title else node.key.chat_id
    mark = " (missing)" if node.is_missing else " *" if node.key == key else ""
    return f"{'  ' * min(node.depth, _DEEPEST)}{name}{mark}"


def _names() -> list[str]:
    fields = [name for name in TreeNode.__dataclass_fields__ if name not in ("key", "parent")]
    return ["user_id", "chat_id", "parent", *fields]


def _object(node: TreeNode) -> dict[str, Any]:
    ids = (node.key.user_id, node.key.chat_id, None if node.parent is None else node.parent.chat_id)
    names = _names()
    return dict(zip(names, (*ids, *(getattr(node, name) for name in names[3:])), strict=True))
