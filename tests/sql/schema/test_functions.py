"""The functions in the database: they are the shipped ones, and use the library's tables whatever a session has set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, open_store, schema
from taskctx_sql.errors import SaveRefusedError, StoreFailedError
from taskctx_sql.maintenance import examine
from taskctx_sql.sql.schema import functions
from tests.support import accounts
from tests.support.contract import loaded, new_delta, stored
from tests.support.psql import psql

SCHEMAS = [None, 'My "tasks"']


@pytest.fixture
async def connection(empty_postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with nothing in it."""
    opened = await asyncpg.connect(empty_postgres_url)
    yield opened
    await opened.close()


async def found(connection: asyncpg.Connection, column: str, schema: str | None) -> dict[str, Any]:
    """What the catalog says of each function in a schema."""
    question = (
        f"SELECT p.oid::regprocedure::text AS function, {column} AS found FROM pg_proc p"
        " WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND proname LIKE 'taskctx%'"
    )
    rows = await connection.fetch(question, schema or "public")
    return {row["function"].rpartition(".")[2]: row["found"] for row in rows}


def test_the_functions_are_read_from_the_files() -> None:
    functions_by_signature = {function.signature: function for function in functions.shipped()}
    texts = [path.read_text() for path in Path(functions.__file__).parent.glob("*.sql")]
    assert {function.name for function in functions.shipped()} >= set(functions.ENTRY_POINTS)
    assert len(functions_by_signature) == sum(text.count("CREATE FUNCTION") for text in texts)
    save = functions_by_signature["taskctx_save_v1(text, text, boolean)"]
    assert (save.name, save.version) == ("taskctx_save_v1", 1)
    assert save.statement.startswith("CREATE FUNCTION taskctx_save_v1(")
    assert save.statement.endswith("$function$")


def test_several_functions_in_one_file_are_kept_apart() -> None:
    text = (
        "-- The first.\nCREATE FUNCTION taskctx_a_v2(\n  given text, INOUT numbers bigint[],\n"
        "  OUT keys text[], OUT b text)\n"
        "LANGUAGE plpgsql AS $function$ BEGIN RETURN 'a;'; END $function$;\n"
        "CREATE FUNCTION taskctx_b_v10() RETURNS double precision LANGUAGE sql AS $function$ SELECT 1.0 $function$;\n"
    )
    one, other = functions.parse(text)
    assert (one.signature, one.version, one.body) == (
        *("taskctx_a_v2(text, bigint[])", 2),
        " BEGIN RETURN 'a;'; END ",
    )
    assert (other.signature, other.version, other.body) == ("taskctx_b_v10()", 10, " SELECT 1.0 ")


@pytest.mark.parametrize("name", SCHEMAS)
async def test_the_functions_in_the_database_are_the_shipped_ones(
    empty_postgres_url: str, connection: asyncpg.Connection, name: str | None
) -> None:
    await schema.upgrade(empty_postgres_url, schema=name)
    shipped = {function.signature.replace(", ", ","): function for function in functions.shipped()}
    assert await found(connection, "prosrc", name) == {key: function.body for key, function in shipped.items()}
    assert await found(connection, "prosecdef", name) == dict.fromkeys(shipped, False)
    home = '"My ""tasks"""' if name else "public"
    assert await found(connection, "proconfig", name) == {key: [f"search_path={home}, pg_temp"] for key in shipped}
    await schema.downgrade(empty_postgres_url, "taskctx_0006", schema=name)
    assert await found(connection, "prosrc", name) == {}


async def test_the_functions_are_created_where_the_tables_are(
    empty_postgres_url: str, connection: asyncpg.Connection
) -> None:
    await schema.upgrade(empty_postgres_url, "taskctx_0006")
    # From now on new tables would be created in it.
    user = await connection.fetchval("SELECT current_user")
    await connection.execute(f'CREATE SCHEMA "{user}"')
    await schema.upgrade(empty_postgres_url)
    assert len(await found(connection, "prosrc", None)) == len(functions.shipped())
    assert await found(connection, "prosrc", user) == {}


async def test_a_function_of_our_name_that_is_not_ours_is_left_alone(
    empty_postgres_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "CREATE FUNCTION taskctx_save_v1(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT 1::text'"
    )
    with pytest.raises(StoreFailedError, match=r"taskctx_save_v1.*already exists"):
        await schema.upgrade(empty_postgres_url)
    assert set((await found(connection, "prosrc", None)).values()) == {"SELECT 1::text"}


PROBE = """
CREATE FUNCTION taskctx_probe_v1(context text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $function$
BEGIN
    RETURN (SELECT chat_id FROM taskctx_contexts WHERE context_id = context);
END
$function$;
"""


@pytest.mark.parametrize("name", SCHEMAS)
async def test_a_table_in_front_of_ours_is_not_the_one_that_a_function_uses(
    empty_postgres_url: str, connection: asyncpg.Connection, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "shipped", lambda: tuple(functions.parse(PROBE)))
    await schema.upgrade(empty_postgres_url, schema=name)
    home = '"My ""tasks"""' if name else "public"
    await connection.execute(
        f"INSERT INTO {home}.taskctx_contexts VALUES ('x', 'u', 'ours', '{{}}', '{{}}', 1, 1, 1, 1, 0, 0)"
    )
    await connection.execute("CREATE SCHEMA decoy")
    for place in ("decoy", "pg_temp"):
        await connection.execute(f"CREATE TABLE {place}.taskctx_contexts (context_id text, chat_id text)")
        await connection.execute(f"INSERT INTO {place}.taskctx_contexts VALUES ('x', '{place}')")
    for path in ("decoy", "pg_temp", "decoy, pg_temp", f"decoy, {home}", home):
        await connection.execute(f"SET search_path TO {path}")
        assert await connection.fetchval(f"SELECT {home}.taskctx_probe_v1('x')") == "ours"
    # Without the fixed path it would be.
    await connection.execute(f"ALTER FUNCTION {home}.taskctx_probe_v1 RESET search_path")
    assert await connection.fetchval(f"SELECT {home}.taskctx_probe_v1('x')") == "pg_temp"


@pytest.mark.parametrize("name", ["public", 'of "choice"'])
async def test_where_not_everybody_may_execute_functions_a_grant_is_needed(empty_postgres_url: str, name: str) -> None:
    url, given = empty_postgres_url, None if name == "public" else name
    await accounts.run(url, ["ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"])
    await schema.upgrade(url, schema=given)
    home = name.replace('"', '""')
    async with accounts.application(url, home) as application, open_store(application, schema=given) as store:
        key = ContextKey("u", "c")
        with pytest.raises(SaveRefusedError, match=r"run `GRANT EXECUTE ON FUNCTION taskctx_save_v1 TO` the account"):
            await store.save(new_delta(key, 1))
        denied = [finding for finding in (await examine(application, schema=given)).findings if finding.level != "ok"]
        assert {finding.check for finding in denied if "GRANT EXECUTE" in finding.remedy} == {"functions"}
        await accounts.grant_functions(url, application, home)
        await store.save(new_delta(key, 1))
        assert await stored(store, key) == [1]
        (finding,) = [
            finding for finding in (await examine(application, schema=given)).findings if finding.check == "functions"
        ]
        assert finding.level == "ok"
        # What restores calls is granted as well.
        context = await loaded(store, "u", "c")
        context.add_context_update("message", 2)
        await context.save()
        await context.restore(1)
        assert await stored(store, key) == [1]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_functions_text_reaches_the_server_as_it_is_with_every_driver(
    empty_postgres_url: str, connection: asyncpg.Connection, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = " BEGIN RETURN format('%I %s %% $1 :name ?', request, '%(x)s'); END "
    probe = (
        f"CREATE FUNCTION taskctx_probe_v1(request text) RETURNS text LANGUAGE plpgsql AS $function${body}$function$;"
    )
    monkeypatch.setattr(functions, "shipped", lambda: tuple(functions.parse(probe)))
    engine = create_async_engine(sa.make_url(empty_postgres_url).set(drivername=f"postgresql+{driver}"))
    await schema.upgrade(engine)
    assert await found(connection, "prosrc", None) == {"taskctx_probe_v1(text)": body}
    await connection.execute("DROP FUNCTION taskctx_probe_v1")
    # It is created anew by another statement.
    await schema.upgrade(engine)
    assert await found(connection, "prosrc", None) == {"taskctx_probe_v1(text)": body}
    assert [finding.level for finding in (await examine(engine)).findings if finding.check == "functions"] == ["ok"]
    await connection.execute("DROP FUNCTION taskctx_probe_v1")
    await psql(empty_postgres_url, await schema.upgrade_sql(engine))
    assert await found(connection, "prosrc", None) == {"taskctx_probe_v1(text)": body}
    await engine.dispose()
