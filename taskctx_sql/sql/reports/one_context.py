"""The reports about one context."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey
from taskctx_sql.model.context_rows import (
    ContextMetadata,
    ContextTotals,
    LastRun,
    ModelUse,
    NamedValue,
    TimelineEntry,
    TrackedFile,
)
from taskctx_sql.model.report_rows import Count, ModelUsage, RunReport, ToolCall
from taskctx_sql.model.tree_rows import TreeNode
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.reports.clauses import typed
from taskctx_sql.sql.reports.course import (
    select_calls,
    select_models,
    select_models_summed,
    select_runs,
    select_totals,
)
from taskctx_sql.sql.reports.report import Query
from taskctx_sql.sql.reports.stored import StoredTables
from taskctx_sql.sql.reports.summed import DailySums
from taskctx_sql.sql.reports.trees import read_tree
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates

_USE_COLUMNS: Final = tuple(name for name in ModelUse.__dataclass_fields__ if name != "removed")


class OfOneContext:
    """The reports that take a `ContextKey`."""

    def __init__(self, query: Query, engine: str, schema: str | None = None) -> None:
        """Use what executes a SELECT, on a database of this engine, whose tables are in this schema."""
        self._query = query
        self._engine = engine
        self._schema = schema
        self._sums = DailySums(query, engine, schema)
        self._stored = StoredTables(query, engine, schema)

    async def timeline(
        self,
        key: ContextKey,
        *,
        limit: int | None = None,
        after: int = 0,
        before: int | None = None,
        oldest: bool = False,
        revision: int | None = None,
        update_type: str | None = None,
        max_characters: int | None = None,
    ) -> list[TimelineEntry]:
        """Return the updates of a context with ``after < seq < before``, removed ones included, the oldest first.

        Args:
            key: Whose.
            limit: Only so many of them, the newest; None for all.
            after: Only those with a higher seq.
            before: Only those with a lower seq; None for all.
            oldest: With a limit, return the oldest ones instead.
            revision: Only those that were in the history in this revision; None for all.
            update_type: Only those of this type; None for all.
            max_characters: Return so much of the JSON text of data and metadata at the most; None for all.
        """
        check_number("limit", limit, 0, optional=True)
        check_number("after", after, 0)
        check_number("before", before, 0, optional=True)
        check_number("max_characters", max_characters, 1, optional=True)
        conditions = [*_of(updates, key), updates.c.seq > after]
        if before is not None:
            conditions.append(updates.c.seq < before)
        if revision is not None:
            conditions += _as_of(updates, key, revision)
        if update_type is not None:
            # As it stands, so that an index of some types serves.
            conditions.append(
                updates.c.update_type == sa.literal(row_codec.column_text(update_type), literal_execute=True)
            )
        columns: dict[str, sa.ColumnElement[Any]] = {
            **updates.c,
            "removed": updates.c.removed_in.is_not(None),
            **_cut(updates, "data", max_characters, "data_characters"),
            **_cut(updates, "metadata", max_characters, "metadata_characters"),
        }
        statement = (
            sa.select(*(columns[name] for name in TimelineEntry.__dataclass_fields__))
            .where(*conditions)
            .order_by(updates.c.seq if oldest else updates.c.seq.desc())
            .limit(limit)
        )
        found = typed(TimelineEntry, await self._query(statement, user_id=key.user_id))
        return found if oldest else found[::-1]

    async def model_uses(self, key: ContextKey, *, limit: int | None = None) -> list[ModelUse]:
        """Return the uses of models in a context, or the newest ``limit``, the oldest first.

        Those that an edit or a restore removed are among them, and what a restore wrote again is not.
        """
        check_number("limit", limit, 0, optional=True)
        statement = (
            sa.select(*(models.c[name] for name in _USE_COLUMNS), models.c.removed_in.is_not(None))
            .where(*_of(models, key), models.c.copy_of.is_(None))
            .order_by(models.c.seq.desc())
            .limit(limit)
        )
        return typed(ModelUse, await self._query(statement, user_id=key.user_id))[::-1]

    async def named_values(
        self,
        key: ContextKey,
        *,
        limit: int | None = None,
        after: str = "",
        revision: int | None = None,
        max_characters: int | None = None,
    ) -> list[NamedValue]:
        """Return the named values of a context that have not expired, in the order of their names, as JSON text.

        Args:
            key: Whose.
            limit: How many at the most; None for all.
            after: Only those whose names come after this one.
            revision: As they were in this revision; None for now.
            max_characters: Return so much of the JSON text at the most; None for all.
        """
        check_number("limit", limit, 0, optional=True)
        check_number("max_characters", max_characters, 1, optional=True)
        if not row_codec.is_column_text(after):
            raise InvalidArgumentError("after", after, "a string without NUL and lone surrogates")
        kept = sa.or_(state.c.expires_at.is_(None), state.c.expires_at > clock.now())
        conditions = [*_of(state, key), state.c.kind == "state", state.c.name > after, kept]
        conditions += [state.c.removed_in.is_(None)] if revision is None else _as_of(state, key, revision)
        text = _cut(state, "value", max_characters, "characters")
        columns = (state.c.name, *text.values(), state.c.added_in, state.c.saved_at, state.c.expires_at)
        statement = sa.select(*columns).where(*conditions).order_by(state.c.name).limit(limit)
        return typed(NamedValue, await self._query(statement, user_id=key.user_id))

    async def tracked_files(
        self, key: ContextKey, *, limit: int | None = None, revision: int | None = None
    ) -> list[TrackedFile]:
        """Return what was done to the files of a context, or the newest ``limit`` operations, the newest first.

        Args:
            key: Whose.
            limit: How many at the most; None for all.
            revision: Only what was known in this revision; None for now.
        """
        check_number("limit", limit, 0, optional=True)
        check_number("revision", revision, 1, optional=True)
        known = [files.c.copy_of.is_(None), *([files.c.added_in <= revision] if revision is not None else ())]
        removed = files.c.removed_in.is_not(None) if revision is None else files.c.removed_in <= revision
        shown = ("path", "operation", "source", "timestamp", "state", "run_id", "added_in")
        statement = (
            sa.select(*(files.c[name] for name in shown), sa.func.coalesce(removed, False))
            .where(*_of(files, key), *known)
            .order_by(files.c.timestamp.desc().nulls_last(), files.c.added_in.desc(), files.c.position)
            .limit(limit)
        )
        return typed(TrackedFile, await self._query(statement, user_id=key.user_id))

    async def metadata(self, key: ContextKey, *, revision: int | None = None) -> ContextMetadata:
        """Return the metadata and the toggles of a context, now or in a revision; empty if it has none."""
        check_number("revision", revision, 1, optional=True)
        conditions = _of(contexts, key)
        names = ("metadata", "metadata_toggles")
        if revision is None:
            columns: list[sa.ColumnElement[Any]] = [contexts.c[name] for name in names]
        else:
            # Each revision has them only if it changed them.
            columns = [
                sa.select(revisions.c[name])
                .where(revisions.c.context_id == contexts.c.context_id, revisions.c.revision <= revision)
                .where(revisions.c[name].is_not(None))
                .order_by(revisions.c.revision.desc())
                .limit(1)
                .scalar_subquery()
                for name in names
            ]
        rows = await self._query(sa.select(*columns).where(*conditions), user_id=key.user_id)
        return ContextMetadata(*(text or "{}" for text in (rows[0] if rows else ("", ""))))

    async def updates_by_type(self, key: ContextKey) -> list[Count]:
        """Return the number of a context's updates by type, removed ones included, the most frequent type first."""
        return await self._counts(key, updates.c.update_type, *_of(updates, key))

    async def files_by_operation(self, key: ContextKey) -> list[Count]:
        """Return the number of a context's tracked files by last operation, the most frequent operation first."""
        operation = sa.func.coalesce(files.c.operation, "")
        return await self._counts(key, operation, *_of(files, key), files.c.removed_in.is_(None))

    async def context_runs(self, key: ContextKey, *, limit: int | None = None) -> list[RunReport]:
        """Return the runs of a context, or the newest ``limit``, and how many updates each wrote, the oldest first."""
        check_number("limit", limit, 0, optional=True)
        conditions = _of(runs, key)
        written = (
            sa.select(updates.c.run_id, sa.func.count().label("updates"))
            .where(updates.c.context_id == row_codec.context_id(key))
            .group_by(updates.c.run_id)
            .subquery()
        )
        shown = (runs.c.run_id, runs.c.started_at, runs.c.ended_at, sa.func.coalesce(runs.c.outcome, "unfinished"))
        statement = (
            sa.select(*shown, runs.c.error, runs.c.saves, sa.func.coalesce(written.c.updates, 0))
            .select_from(runs.outerjoin(written, runs.c.run_id == written.c.run_id))
            .where(*conditions)
            .order_by(runs.c.started_at.desc(), runs.c.run_id)
            .limit(limit)
        )
        return typed(RunReport, await self._query(statement, user_id=key.user_id))[::-1]

    async def tree(self, key: ContextKey, *, limit: int | None = None) -> list[TreeNode]:
        """Return the tree of tasks that a context is in: each task after its parent, and before its next sibling.

        The first is the root. It ``is_missing`` if others name it as their parent, and it is not there. Of a circle of
        parents, one of them is the root. Nothing is returned if there is no such context, and none names it.

        With ``limit``, at most so many tasks: those above the context, itself, those below it, and then others. The
        sums are then those of these tasks, and the first one may have a parent that is left out.
        """
        _check(key)
        check_number("limit", limit, 1, optional=True)
        are_summed = await self._sums.are_there(key.user_id)
        return await read_tree(self._query, key, limit, self._sums if are_summed else None)

    async def context_totals(self, key: ContextKey) -> ContextTotals | None:
        """Return how many updates, errors, runs and files a context has, without reading its updates.

        None if there is no such context.
        """
        rows = await self._query(select_totals(_id(key)), user_id=key.user_id)
        return ContextTotals(*rows[0]) if rows else None

    async def context_models(self, key: ContextKey) -> list[ModelUsage]:
        """Return the usage of each model, provider and mode in a context, on all days, those that cost most first."""
        of_sums = await self._sums.are_there(key.user_id)
        statement = select_models_summed(self._sums, _id(key)) if of_sums else select_models(_id(key))
        return typed(ModelUsage, await self._query(statement, user_id=key.user_id))

    async def context_calls(self, key: ContextKey, *, limit: int) -> list[ToolCall]:
        """Return the newest calls of tools in a context, the oldest first, as `Reports.calls` has them."""
        check_number("limit", limit, 1)
        return typed(ToolCall, await self._query(select_calls(_id(key), limit), user_id=key.user_id))[::-1]

    async def last_runs(self, key: ContextKey, *, limit: int) -> list[LastRun]:
        """Return the newest runs of a context, the oldest first, without what they add up to."""
        check_number("limit", limit, 1)
        return typed(LastRun, await self._query(select_runs(_id(key), limit), user_id=key.user_id))[::-1]

    async def _counts(
        self, key: ContextKey, name: sa.ColumnElement[str], *conditions: sa.ColumnElement[bool]
    ) -> list[Count]:
        number = sa.func.count()
        statement = sa.select(name, number).where(*conditions).group_by(name).order_by(number.desc(), name)
        return typed(Count, await self._query(statement, user_id=key.user_id))


def _of(table: sa.Table, key: ContextKey) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a context's rows; an incomplete context has none."""
    _check(key)
    context_id = row_codec.context_id(key)
    whole = sa.exists().where(contexts.c.context_id == context_id, incomplete.is_there())
    return table.c.context_id == context_id, whole


def _as_of(table: sa.Table, key: ContextKey, revision: int) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the rows that are in a revision."""
    check_number("revision", revision, 1)
    remains = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > revision)
    conditions = [table.c.added_in <= revision, remains]
    if table is updates:
        # Later updates are not read to find out that they came later.
        of_revision = (revisions.c.context_id == row_codec.context_id(key), revisions.c.revision == revision)
        conditions.append(updates.c.seq < sa.select(revisions.c.next_seq).where(*of_revision).scalar_subquery())
    return conditions


def _cut(table: sa.Table, name: str, most: int | None, length: str) -> dict[str, sa.ColumnElement[Any]]:
    """Return a column of text, cut to so many characters, and its length, by their names."""
    column = table.c[name]
    return {
        name: column if most is None else sa.func.substr(column, 1, most, type_=sa.Text).label(name),
        length: sa.func.length(column).label(length),
    }


def _id(key: ContextKey) -> str:
    _check(key)
    return row_codec.context_id(key)


def _check(key: ContextKey) -> None:
    if not isinstance(key, ContextKey):
        raise InvalidArgumentError("key", key, "a ContextKey")
