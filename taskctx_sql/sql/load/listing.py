"""Listing contexts: a user's or everybody's, by label and title, page by page."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa

from taskctx_sql import codec
from taskctx_sql.model import ContextKey, ContextSummary, Listing
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.load.state import is_kept, is_named
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, state

# Contexts are looked up by a label that so many have at most. Beyond it, they are read in their order and compared.
FEW: Final = 1_000

_LABELS: Final = (state.c.kind == sa.literal_column("'label'", sa.Text), state.c.removed_in.is_(None))
_OF_CONTEXT: Final = (state.c.context_id == contexts.c.context_id, *_LABELS)
_VALUES_OF_CONTEXT: Final = (
    state.c.context_id == contexts.c.context_id,
    state.c.kind == sa.literal_column("'state'", sa.Text),
    state.c.removed_in.is_(None),
)


class _Form(NamedTuple):
    """What the SELECT of a page depends on: the number of labels, and the one to look up by, or None."""

    engine: str
    of_user: bool
    continues: bool
    labels: int
    by_label: int | None
    by_title: bool
    since: bool
    values: Literal["none", "named", "all"] = "none"


def list_contexts(engine: str, listing: Listing, at: float, *, is_guarded: bool = False) -> Plan[list[ContextSummary]]:
    """Return the plan that lists contexts, the newest first.

    Args:
        engine: The engine's name.
        listing: Which contexts.
        at: The time by which values have expired or not.
        is_guarded: Whether row-level security holds. It checks every row of a label, whoever has it, so that none is
            looked up by.
    """
    labels = dict(listing.labels or {})
    parameters: dict[str, Any] = {"limit": listing.limit}
    for place, (name, value) in enumerate(labels.items()):
        parameters |= {f"name_{place}": name, f"value_{place}": codec.encode(value)}
    by_label = None
    if labels and not is_guarded:
        rows = yield Step(_count_labels(len(labels)), parameters | {"limit": FEW + 1}, reads=True)
        counts = list((rows or [()])[0])
        by_label = counts.index(min(counts)) if min(counts) <= FEW else None
    after, continues = listing.after, listing.after is not None and listing.after.created_at is not None
    if listing.user_id is not None:
        parameters["user"] = listing.user_id
    if after is not None and continues:
        last = row_codec.context_id(ContextKey(after.user_id, after.chat_id))
        parameters |= {"last_created_at": after.created_at, "last": last}
    if listing.title is not None:
        parameters["part"] = engines.lower_ascii(listing.title)
    if listing.updated_since is not None:
        parameters["since"] = float(listing.updated_since)
    values: Literal["none", "named", "all"] = "none"
    if listing.state != ():
        parameters["at"], values = at, "all"
    if listing.state:
        parameters["names"], values = engines.list_value(engine, listing.state), "named"
    form = _Form(
        engine,
        of_user="user" in parameters,
        continues=continues,
        labels=len(labels),
        by_label=by_label,
        by_title="part" in parameters,
        since="since" in parameters,
        values=values,
    )
    return [_summary(*row) for row in (yield Step(_select(form), parameters, reads=True)) or []]


def _summary(
    user: str,
    chat: str,
    revision: int,
    created_at: float,
    updated_at: float,
    labels_text: str | None,
    state_text: str | None = None,
) -> ContextSummary:
    labels = labels_of(labels_text)
    values = {
        name: row_codec.read_json(ContextKey(user, chat), f"state {name!r}", value)
        for name, value in _texts_by_name(state_text).items()
    }
    return ContextSummary(user, chat, revision, created_at, updated_at, labels.get("title"), labels, values)


def labels_of(text: str | None) -> dict[str, str]:
    """Return the labels in what `engines.json_object` made of them."""
    return _texts_by_name(text)


def _texts_by_name(text: str | None) -> dict[str, str]:
    # A name may look like a tag.
    found: dict[str, str] = codec.decode_untagged(text) if text else {}
    return {name: found[name] for name in sorted(found)}


@cache
def _count_labels(labels: int) -> Statement:
    """Return the SELECT of how many contexts have each label, up to a limit."""

    def count(place: int) -> sa.ScalarSelect[int]:
        found = sa.select(state.c.context_id).where(*_LABELS, *_is_label(place)).limit(number("limit"))
        return sa.select(sa.func.count()).select_from(found.subquery()).scalar_subquery()

    return sa.select(*map(count, range(labels)))


@cache
def _select(form: _Form) -> Statement:
    shown = (contexts.c.user_id, contexts.c.chat_id, contexts.c.revision, contexts.c.created_at, contexts.c.updated_at)
    user: sa.ColumnElement[str] = contexts.c.user_id
    created_at: sa.ColumnElement[float] = contexts.c.created_at
    selected = sa.select(*shown, _labels(form.engine)).where(incomplete.is_there())
    if form.values != "none":
        selected = selected.add_columns(_values(form))
    if form.by_label is not None:
        having = sa.select(state.c.context_id).where(*_LABELS, *_is_label(form.by_label))
        selected = selected.where(contexts.c.context_id.in_(having))
        # Not the columns themselves, so that neither engine reads all contexts in the order of an index instead.
        user, created_at = sa.func.coalesce(user, ""), sa.func.coalesce(created_at, 0.0)
    if form.of_user:
        selected = selected.where(user == text("user"))
    for place in range(form.labels):
        if place != form.by_label:
            # As a value, and not with EXISTS, which Postgres may look up for all contexts at once.
            value = sa.select(state.c.value).where(*_OF_CONTEXT, state.c.name == text(f"name_{place}"))
            selected = selected.where(value.scalar_subquery() == text(f"value_{place}"))
    if form.by_title:
        title = sa.select(engines.string_of_json(form.engine, state.c.value)).where(
            *_OF_CONTEXT, state.c.name == sa.literal_column("'title'", sa.Text)
        )
        selected = selected.where(engines.contains(title.scalar_subquery(), text("part"), case_sensitive=False))
    if form.since:
        selected = selected.where(contexts.c.updated_at >= sa.bindparam("since", type_=sa.Double))
    if form.continues:
        last = sa.tuple_(sa.bindparam("last_created_at", type_=sa.Double), text("last"))
        selected = selected.where(sa.tuple_(created_at, contexts.c.context_id) < last)
    return selected.order_by(created_at.desc(), contexts.c.context_id.desc()).limit(number("limit"))


def _is_label(place: int) -> tuple[sa.ColumnElement[bool], ...]:
    return state.c.name == text(f"name_{place}"), state.c.value == text(f"value_{place}")


def _labels(engine: str) -> sa.ScalarSelect[str | None]:
    return sa.select(engines.json_object(engine, state.c.name, state.c.value)).where(*_OF_CONTEXT).scalar_subquery()


def _values(form: _Form) -> sa.ScalarSelect[str | None]:
    # As strings, so that the database does not read what is in them.
    found = engines.json_object_of_texts(form.engine, state.c.name, state.c.value)
    named = (is_named(form.engine),) if form.values == "named" else ()
    return sa.select(found).where(*_VALUES_OF_CONTEXT, is_kept(), *named).scalar_subquery()
