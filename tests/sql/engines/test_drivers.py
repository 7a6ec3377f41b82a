"""The two drivers of Postgres: which one serves an address, what reaches it, and what its errors mean."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import open_store, schema
from taskctx_sql.errors import InvalidDatabaseUrlError, MissingDriverError, StoreError, StoreFailedError
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import ErrorClass
from tests.support.connections import with_driver
from tests.support.waiting import SOON

ASYNCPG, PSYCOPG = "postgresql+asyncpg", "postgresql+psycopg"
DRIVERS = ("asyncpg", "psycopg")


def _uninstall(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)


def _and(url: str, parameters: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameters}"


# Which one.


@pytest.mark.parametrize(
    ("url", "missing", "driver"),
    [
        ("postgresql://h/d", "", ASYNCPG), ("postgres://h/d", "", ASYNCPG), ("postgresql://h/d", "asyncpg", PSYCOPG),
        ("postgresql+asyncpg://h/d", "", ASYNCPG), ("postgresql+asyncpg://h/d", "asyncpg", ASYNCPG),
        ("postgresql+psycopg://h/d", "", PSYCOPG), ("postgresql+psycopg_async://h/d", "psycopg", PSYCOPG),
        ("postgresql://h/d?transaction_pooling=true", "", PSYCOPG),
        ("postgresql://h/d?transaction_pooling=false", "", ASYNCPG),
        ("postgresql://h/d?transaction_pooling=true", "psycopg", ASYNCPG),
        ("postgresql://h/d?transaction_pooling=true&command_timeout=9", "", ASYNCPG),
        ("postgresql+asyncpg://h/d?transaction_pooling=true", "", ASYNCPG),
    ],
)  # fmt: skip
def test_an_address_has_a_driver(url: str, missing: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing:
        _uninstall(missing, monkeypatch)
    assert engines.parse_url(url).drivername == driver


def test_the_argument_for_a_pooler_chooses_as_the_parameter_does() -> None:
    assert engines.parse_url("postgresql://h/d", transaction_pooling=True).drivername == PSYCOPG
    assert engines.parse_url("postgresql+asyncpg://h/d", transaction_pooling=True).drivername == ASYNCPG


@pytest.mark.parametrize(
    ("url", "missing", "extra"),
    [
        ("postgresql+psycopg://h/d", ["psycopg"], "psycopg"), ("postgresql+asyncpg://h/d", ["asyncpg"], "postgres"),
        ("postgresql://h/d?transaction_pooling=1", ["asyncpg", "psycopg"], "postgres"),
    ],
)  # fmt: skip
async def test_the_extra_with_the_driver_is_named(
    url: str, missing: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        _uninstall(name, monkeypatch)
    for use in (open_store, schema.upgrade, schema.current):
        with pytest.raises(MissingDriverError, match=rf"taskctx_sql\[{extra}\]"):
            await use(url)


# What reaches it.


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [
        ("ssl=require&timeout=1.5&database=x", {"sslmode": "require", "connect_timeout": 2, "dbname": "x"}),
        ("sslmode=disable&connect_timeout=9", {"sslmode": "disable", "connect_timeout": 9}),
        ("host=a,b&port=1,2&target_session_attrs=read-write", {"host": "a,b", "port": "1,2"}),
        ("host=/tmp/socket&user=other", {"host": "/tmp/socket", "user": "other"}),
        (f"sslrootcert={__file__}&keepalives_idle=30", {"sslrootcert": __file__, "keepalives_idle": "30"}),
        ("timeout=inf&application_name=a%20b", {"connect_timeout": 0, "application_name": "a b"}),
        ("transaction_pooling=true", {"prepare_threshold": None}),
    ],
)
async def test_psycopg_gets_parameters_by_its_own_names(
    parameters: str, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    got: dict[str, Any] = {}

    async def connect(**more: Any) -> None:
        got.update(more)
        raise psycopg.OperationalError

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    engine = engines.create_engine(engines.parse_url(f"{PSYCOPG}://me@/d?{parameters}"), lock_seconds=3)
    with pytest.raises(sa.exc.OperationalError):
        await engine.connect()
    assert {name: got.get(name) for name in settings} == settings
    # libpq knows each of them.
    psycopg.conninfo.make_conninfo(**{name: got[name] for name in got if name not in ("context", "prepare_threshold")})
    assert ("options" in got) == ("transaction_pooling" not in parameters)


@pytest.mark.parametrize("parameter", ["statement_cache_size=0", "command_timeout=5"])
async def test_what_only_asyncpg_takes_is_refused_with_psycopg(parameter: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=r"leave it out, or write postgresql\+asyncpg://"):
        await open_store(f"{PSYCOPG}://me@host/db?{parameter}")
    with pytest.raises(InvalidDatabaseUrlError, match=r"leave it out, or write postgresql\+psycopg://"):
        await open_store(f"{ASYNCPG}://me@host/db?keepalives_idle=30")


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_server_knows_the_name_and_the_limit_of_locks(driver: str, postgres_url: str) -> None:
    url = _and(with_driver(f"postgresql+{driver}", postgres_url), "application_name=agents&connect_timeout=10")
    engine = engines.create_engine(engines.parse_url(url), lock_seconds=2.5)
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SHOW application_name")) == "agents"
        assert await connection.scalar(sa.text("SHOW lock_timeout")) == "2500ms"
    await engine.dispose()
    async with open_store(url) as store:
        assert list(await store.contexts("nobody")) == []


# What its errors mean.


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    """The address of a Postgres for each driver."""
    return with_driver(f"postgresql+{request.param}", postgres_url)


@pytest.fixture
async def engine(url: str) -> Any:
    made = create_async_engine(engines.parse_url(url))
    yield made
    await made.dispose()


async def _raw(url: str) -> Any:
    """A connection of the driver itself."""
    plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    if url.startswith(PSYCOPG):
        return await psycopg.AsyncConnection.connect(plain, autocommit=True)
    return await asyncpg.connect(plain)


async def _error(engine: AsyncEngine, statement: str) -> BaseException:
    with pytest.raises(sa.exc.DBAPIError) as caught:
        async with engine.begin() as connection:
            await connection.execute(sa.text(statement))
    return caught.value


async def _raw_error(url: str, *statements: str) -> BaseException:
    connection = await _raw(url)
    try:
        with pytest.raises((psycopg.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as caught:
            for statement in statements:
                await connection.execute(statement)
    finally:
        await connection.close()
    return caught.value


END_MYSELF = "SELECT pg_terminate_backend(pg_backend_pid())"


async def test_a_connection_that_the_server_ends_is_worth_another_try(engine: AsyncEngine, url: str) -> None:
    for error in (await _error(engine, END_MYSELF), await _raw_error(url, END_MYSELF)):
        assert engines.classify(error) is ErrorClass.TRANSIENT
        assert engines.is_in_doubt_at_commit(error)
        assert not engines.is_refusal(error)
        assert not engines.is_raised_by_writing(error)
        assert "terminat" in engines.reason(error)


async def test_a_connection_that_was_lost_before_is_worth_another_try(engine: AsyncEngine, url: str) -> None:
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        descriptor = _descriptor(raw.driver_connection)
        _shut(descriptor)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            await connection.execute(sa.text("SELECT 1"))
        await connection.invalidate()
    assert engines.classify(caught.value) is ErrorClass.TRANSIENT
    assert engines.is_in_doubt_at_commit(caught.value)
    held = await _raw(url)
    _shut(_descriptor(held))
    for _ in range(2):
        # The second time the driver knows that it is closed.
        with pytest.raises((psycopg.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as lost:
            await held.execute("SELECT 1")
        if url.startswith(PSYCOPG):
            assert engines.classify(lost.value) is ErrorClass.TRANSIENT
            assert engines.is_in_doubt_at_commit(lost.value)
    await held.close()


def _descriptor(driver: Any) -> int:
    if isinstance(driver, psycopg.AsyncConnection):
        return driver.fileno()
    return int(driver._transport.get_extra_info("socket").fileno())


def _shut(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as end:
        end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("statement", "kind", "refused", "by_writing"),
    [
        ("SELECT 1/0", ErrorClass.FINAL, True, True),
        ("SELECT nothing", ErrorClass.FINAL, False, False),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '42501'; END $$", ErrorClass.FINAL, True, False),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '40001'; END $$", ErrorClass.TRANSIENT, False, False),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '53400'; END $$", ErrorClass.FINAL, True, True),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '55P03'; END $$", ErrorClass.TRANSIENT, False, False),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '57P01'; END $$", ErrorClass.TRANSIENT, False, False),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = 'TC001'; END $$", ErrorClass.FINAL, True, True),
    ],
)
async def test_both_drivers_give_what_the_server_says(
    engine: AsyncEngine, url: str, statement: str, kind: ErrorClass, refused: bool, by_writing: bool
) -> None:
    for error in (await _error(engine, statement), await _raw_error(url, statement)):
        assert engines.classify(error) is kind
        assert engines.is_refusal(error) is refused
        assert engines.is_raised_by_writing(error) is by_writing


async def test_no_statement_and_no_value_is_in_a_reason(url: str) -> None:
    table = "CREATE TEMPORARY TABLE t (secret text CHECK (secret = ''))"
    error = await _raw_error(url, table, "INSERT INTO pg_temp.t (secret) SELECT nothing AS secret")
    assert engines.reason(error).endswith('column "nothing" does not exist')
    if url.startswith(PSYCOPG):
        error = await _raw_error(url, table, "INSERT INTO t VALUES ('0penSesame')")
        assert engines.reason(error).endswith('violates check constraint "t_secret_check"')


@pytest.mark.parametrize("statement", ["EXECUTE nothing", "PREPARE x AS SELECT 1; PREPARE x AS SELECT 1"])
async def test_a_lost_prepared_statement_has_its_remedy(url: str, statement: str) -> None:
    assert "transaction_pooling=True" in engines.reason(await _raw_error(url, *statement.split("; ")))


async def test_a_server_that_only_reads_breaks_its_connection(engine: AsyncEngine, url: str) -> None:
    write = "CREATE TABLE never (x int)"
    error = await _raw_error(url, "SET default_transaction_read_only = on", write)
    assert engines.is_failover(error)
    assert engines.breaks_connection(error)
    assert engines.classify(error) is ErrorClass.TRANSIENT


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_is_away_is_worth_another_try(driver: str) -> None:
    for host in ("127.0.0.1:1/d", "host.invalid/d", "/d?host=/nowhere"):
        engine = create_async_engine(engines.parse_url(f"postgresql+{driver}://me@{host}"))
        with pytest.raises((OSError, sa.exc.OperationalError)) as caught:
            await engine.connect()
        assert engines.classify(caught.value) is ErrorClass.TRANSIENT, host


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_command_soon_gives_up_a_server_that_is_not_there(driver: str) -> None:
    for host in ("host.invalid", "127.0.0.1:1"):
        url = f"postgresql+{driver}://me@{host}/d"
        began = time.monotonic()
        with pytest.raises(StoreError, match="check the host" if "invalid" in host else "within 4|within 5"):
            await schema.current(url)
        with pytest.raises(StoreError):
            await open_store(url, open_seconds=0.5)
        assert time.monotonic() - began < SOON


async def test_a_server_that_does_not_answer_in_time_is_worth_another_try() -> None:
    serving: list[asyncio.StreamWriter] = []

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(writer)
        await reader.read()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for driver in DRIVERS:
        engine = engines.create_engine(engines.parse_url(f"postgresql+{driver}://me@127.0.0.1:{port}/d?timeout=2"))
        with pytest.raises((OSError, sa.exc.OperationalError)) as caught:
            await engine.connect()
        assert engines.classify(caught.value) is ErrorClass.TRANSIENT
        await engine.dispose()
    for writer in serving:
        writer.close()
        await writer.wait_closed()
    server.close()


async def test_a_server_that_refuses_the_account_is_not_asked_again(url: str) -> None:
    right = sa.make_url(url)
    for wrong in (right.set(database="none"), right.set(username="nobody")):
        with pytest.raises(StoreFailedError, match="does not exist"):
            await open_store(wrong.render_as_string(hide_password=False))


def test_what_psycopg_says_of_a_refusal_is_known() -> None:
    for text in (
        'connection failed: FATAL:  password authentication failed for user "me"',
        'connection to server at "::1", port 5432 failed: FATAL:  no pg_hba.conf entry for host "::1", user "me"',
        'FATAL:  Peer authentication failed for user "me"', "fe_sendauth: no password supplied",
    ):  # fmt: skip
        assert engines.classify(psycopg.OperationalError(text)) is ErrorClass.FINAL
    for text in ("FATAL:  the database system is starting up", "FATAL:  sorry, too many clients already"):
        assert engines.classify(psycopg.OperationalError(text)) is ErrorClass.TRANSIENT
    for kind in (psycopg.errors.ConnectionTimeout, psycopg.errors.CannotConnectNow, psycopg.errors.AdminShutdown):
        assert engines.classify(kind("x")) is ErrorClass.TRANSIENT
    assert engines.classify(psycopg.DataError("x")) is ErrorClass.FINAL
    assert engines.classify(psycopg.InternalError("x")) is ErrorClass.FINAL


async def test_the_driver_is_shown_of_no_address(postgres_url: str) -> None:
    shown = engines.mask(with_driver(PSYCOPG, postgres_url))
    assert shown == engines.mask(postgres_url)
    async with open_store(with_driver(PSYCOPG, postgres_url)) as store:
        assert store.database_url == shown
