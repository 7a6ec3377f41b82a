"""The reports leave out incomplete contexts, which are being removed, or copied in for the first time.

Revision: taskctx_0006, after taskctx_0005
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, verbatim

revision = "taskctx_0006"
down_revision = "taskctx_0005"
branch_labels = None
depends_on = None

# The row of an incomplete context has revision 0, which no save writes.
_WHOLE = {
    "JOIN taskctx_contexts c ON ": "JOIN taskctx_contexts c ON c.revision > 0 AND ",
    "ON u.context_id = c.context_id\n        GROUP BY ": (
        "ON u.context_id = c.context_id\n        WHERE c.revision > 0\n        GROUP BY "
    ),
}


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    for name, select in whole_views(op):
        _replace(op, name, select)


def whole_views(op: Operations) -> Iterator[tuple[str, str]]:
    """Yield the views as they are from this revision on."""
    for name, select in _views(op):
        before = select
        for place, whole in _WHOLE.items():
            # The second condition is only for views that select from the contexts.
            if "FROM taskctx_contexts c " in select or place.startswith("JOIN"):
                select = select.replace(place, whole)
        assert select != before, name
        yield name, select


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    for name, select in _views(op):
        _replace(op, name, select)


def _replace(op: Operations, name: str, select: str) -> None:
    if verbatim.dialect_name(op) == "postgresql":
        # Keeps the privileges on the view.
        verbatim.execute(op, f"CREATE OR REPLACE VIEW taskctx_report_{name} AS {select}")
        return
    verbatim.execute(op, f"DROP VIEW taskctx_report_{name}")
    verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select}")


def _views(op: Operations) -> Iterator[tuple[str, str]]:
    """Yield the views as they were before this revision."""
    created, changed = _revision("0003_reports"), _revision("0004_time_travel")
    dialect = verbatim.dialect_name(op)
    later = {"tasks": changed.tasks, "models": changed.models}
    for name, select in created.VIEWS.items():
        if name in later:
            yield name, later[name](changed.Engine(dialect), before=False)
        else:
            yield name, select(created.Engine(dialect))


def _revision(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
