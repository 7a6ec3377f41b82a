"""Which machine of a Citus has a context: saves that share a call are those of one machine."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import REGCLASS

from taskctx_sql.concurrency import shielded
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Statement, compiled, text
from taskctx_sql.sql.postgres_connection import Connections
from taskctx_sql.sql.retry import deadline
from taskctx_sql.sql.schema import contexts

# Contexts can be moved to another machine at any time. Where an answer is out of date, a call only takes longer: the
# machine that it goes to writes to the other one.
SECONDS: Final = 10.0
MOST_KNOWN: Final = 10_000


class Machines:
    """Knows the machines of the contexts that were asked for."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: dict[str, tuple[int, float]] = {}

    async def of(self, context_id: str) -> int:
        """Return the number of the machine that has a context, or would have it. Raises what the driver raises."""
        machine, until = self._known.get(context_id, (0, 0.0))
        if time.monotonic() < until:
            return machine
        asking = self._connections.use(partial(self._ask, context_id), deadline(), writes=False)
        machine = await shielded(asking)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[context_id] = machine, time.monotonic() + SECONDS
        return machine

    async def _ask(self, context_id: str, driver: engines.Driver) -> int:
        question = compiled(driver.dialect.driver, _select_machine())
        table = ".".join(driver.dialect.identifier_preparer.quote(name) for name in self._name())
        ((machine,),) = await driver.fetch(question.sql, question.values({"table": table, "context": context_id}))
        return int(machine)

    def _name(self) -> list[str]:
        return [name for name in (self._connections.schema, contexts.name) if name is not None]


@cache
def _select_machine() -> Statement:
    placements: Any = sa.table("pg_dist_placement", sa.column("shardid"), sa.column("groupid"))
    shard = sa.func.get_shard_id_for_distribution_column(
        sa.cast(text("table"), REGCLASS), sa.cast(text("context"), sa.Text)
    )
    return sa.select(placements.c.groupid).where(placements.c.shardid == shard).limit(1)
