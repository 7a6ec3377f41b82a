"""Databases on a Citus that is there already: one of the same name on each of its machines."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import sqlalchemy as sa

# Many tables are made and dropped here, and each has as many shards.
SHARDS = 8


class Node(NamedTuple):
    """A machine of the cluster: where it is, and whether it is the coordinator."""

    host: str
    port: int
    is_coordinator: bool

    def url(self, url: str) -> str:
        """The URL of the same database on this machine."""
        return sa.make_url(url).set(host=self.host, port=self.port).render_as_string(hide_password=False)


async def ask(url: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    """The rows of one query, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


async def nodes(url: str) -> list[Node]:
    """The machines, the coordinator first. A database without the extension is an error."""
    found = await ask(url, "SELECT nodename, nodeport, groupid = 0 FROM pg_dist_node ORDER BY groupid")
    machines = [Node(*row) for row in found]
    if len(machines) < 2 or not machines[0].is_coordinator:
        raise RuntimeError("TASKCTX_TEST_CITUS_URL must name the coordinator of a cluster with workers")
    return machines


async def install(cluster_url: str, url: str) -> None:
    """Make a database, which is there on each machine of a cluster, a Citus."""
    coordinator, *workers = await nodes(cluster_url)
    for node in (coordinator, *workers):
        await ask(node.url(url), "CREATE EXTENSION citus")
    await ask(url, "SELECT citus_set_coordinator_host($1, $2)", coordinator.host, coordinator.port)
    for node in workers:
        await ask(url, "SELECT citus_add_node($1, $2)", node.host, node.port)
    await ask(url, f"ALTER DATABASE {sa.make_url(url).database} SET citus.shard_count = {SHARDS}")


@asynccontextmanager
async def new_database(cluster_url: str, *, installed: bool = True) -> AsyncIterator[str]:
    """Make an empty database on each machine of a cluster, and drop it at the end."""
    name = f"taskctx_test_{uuid.uuid4().hex[:12]}"
    machines = await nodes(cluster_url)
    url = sa.make_url(cluster_url).set(database=name).render_as_string(hide_password=False)
    try:
        for node in machines:
            await ask(node.url(cluster_url), f"CREATE DATABASE {name}")
        if installed:
            await install(cluster_url, url)
        yield url
    finally:
        for node in machines:
            await _drop(node.url(cluster_url), name)


async def _drop(url: str, name: str) -> None:
    """Drop a database of a machine, in which another machine may be about to look for what it left there."""
    for attempt in range(4):
        try:
            await ask(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except asyncpg.ObjectInUseError:
            # The server has waited five seconds.
            if attempt == 3:
                raise
        else:
            return
