"""Options of a connection: they win over the address, reach the driver by its names, and hold on a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ConnectionOptions, JsonStore, open_store
from taskctx_sql.errors import InvalidArgumentError, StoreFailedError
from taskctx_sql.sql import engines
from tests.sql.engines.connects import DRIVERS, Connects, subset
from tests.support.connections import with_driver
from tests.support.waiting import SOON


async def test_options_win_over_the_address(told: Connects) -> None:
    options = ConnectionOptions(
        application_name="mine", connect_timeout=3, sslmode="require", host=["a", "b:7"], password="pw",
        target_session_attrs="read-write",
    )  # fmt: skip
    address = "postgresql+{}://me:old@h:1/d?sslmode=disable&application_name=other"
    found = await told(address.format("psycopg"), options)
    expected: dict[str, Any] = {
        "application_name": "mine", "connect_timeout": 3, "sslmode": "require", "host": "a,b", "port": "5432,7",
        "password": "pw", "target_session_attrs": "read-write", "user": "me",
    }  # fmt: skip
    assert subset(found, expected) == expected
    found = await told(address.format("asyncpg"), options)
    expected = {"timeout": 3.0, "dsn": "postgresql://?sslmode=require", "hosts": [("a", 5432), ("b", 7)]}
    assert subset(found, expected) == expected


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_rest_goes_to_the_driver_by_its_name(driver: str, told: Connects) -> None:
    name, value = {"asyncpg": ("max_cached_statement_lifetime", 5), "psycopg": ("prepare_threshold", 1)}[driver]
    found = await told(f"postgresql+{driver}://me@h/d", ConnectionOptions(driver_options={name: value}))
    assert found[name] == value
    for wrong in ("nonsense", "row_factory", "loop"):
        with pytest.raises(InvalidArgumentError, match=rf"driver_options\['{wrong}'\]"):
            await open_store(
                f"postgresql+{driver}://me@h/d", connection=ConnectionOptions(driver_options={wrong: "0penSesame"})
            )


@pytest.mark.parametrize(
    "arguments",
    [
        {"pool_size": 0}, {"pool_size": True}, {"max_overflow": -1}, {"pool_recycle": 0}, {"connect_timeout": "1"},
        {"statement_timeout": float("inf")}, {"lock_timeout": -1}, {"sslmode": "maybe"}, {"application_name": ""},
        {"host": []}, {"host": 5}, {"target_session_attrs": "all"}, {"password": 5}, {"driver_options": 5},
        {"sslrootcert": Path("/x")},
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_by_its_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{next(iter(arguments))}="):
        ConnectionOptions(**arguments)


async def test_an_option_that_does_not_fit_the_store_is_refused_by_its_name(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "pool_size": 5, "sslmode": "require", "password": "0penSesame", "driver_options": {"x": "0penSesame"},
        "statement_timeout": 1.0,
    }  # fmt: skip
    engine = engines.create_engine(engines.parse_url("sqlite:///x.db"))
    places: tuple[Any, ...] = ("sqlite:///x.db", f"json:///{tmp_path}/x", engine)
    for place in places:
        for name, value in given.items():
            with pytest.raises(InvalidArgumentError, match=f"^{name}=.*the address of a Postgres") as caught:
                await open_store(place, connection=ConnectionOptions(**{name: value}))
            assert "0penSesame" not in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="a ConnectionOptions"):
        open_store("sqlite:///x.db", connection={"pool_size": 5})  # type: ignore[arg-type]  # as somebody may
    await engine.dispose()
    store = await open_store(f"json:///{tmp_path}/x", connection=ConnectionOptions())
    assert isinstance(store, JsonStore)


def test_no_secret_of_the_options_is_shown() -> None:
    options = ConnectionOptions(password="0penSesame", sslpassword="0penSesame", driver_options={"x": "0penSesame"})
    assert "0penSesame" not in repr(options)
    assert hash(options) == hash(ConnectionOptions(password="0penSesame", sslpassword="0penSesame"))


async def _rows(store: Any, statement: sa.Select[Any]) -> Any:
    return await store.query(statement)


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    return with_driver(f"postgresql+{request.param}", postgres_url)


async def test_the_server_has_the_settings_of_the_options(url: str) -> None:
    options = ConnectionOptions(statement_timeout=2.5, lock_timeout=1.5, application_name="mine")
    async with open_store(url, connection=options) as store:
        names = ("statement_timeout", "lock_timeout", "application_name")
        ((*found,),) = await _rows(store, sa.select(*(sa.func.current_setting(name) for name in names)))
    assert found == ["2500ms", "1500ms", "mine"]
    with pytest.raises(InvalidArgumentError, match="ALTER ROLE"):
        await open_store(url, connection=options, transaction_pooling=True)


async def test_a_password_is_asked_for_at_each_new_connection(url: str, told: Connects) -> None:
    asked: list[str] = []

    def plain() -> str:
        asked.append("plain")
        return f"token-{len(asked)}"

    async def later() -> str:
        await asyncio.sleep(0)
        return plain()

    for ask in (plain, later, lambda: later()):
        asked.clear()
        options = ConnectionOptions(password=ask)
        assert (await told(url, options))["password"] == "token-1"
        assert (await told(url, options))["password"] == "token-2"


async def test_a_password_that_cannot_be_had_is_the_cause(url: str) -> None:
    def fails() -> str:
        raise LookupError("the token service is closed")

    with pytest.raises(StoreFailedError, match="the token service is closed") as caught:
        await open_store(url, connection=ConnectionOptions(password=fails))
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(InvalidArgumentError, match="password="):
        await open_store(url, connection=ConnectionOptions(password=lambda: b"x"))  # type: ignore[arg-type, return-value]


async def test_a_pool_of_one_connection_serves_everything(url: str) -> None:
    options = ConnectionOptions(pool_size=1, max_overflow=0, application_name="alone")
    async with open_store(url, connection=options, retry_seconds=5) as store:
        reads = [store.contexts(f"user-{n}") for n in range(5)]
        reports = [store.reports.errors(limit=1) for _ in range(5)]
        await asyncio.gather(*reads, *reports)
        its = sa.text("application_name = 'alone'")
        count: Any = sa.select(sa.literal_column("count(*)")).select_from(sa.text("pg_stat_activity")).where(its)
        assert (await _rows(store, count))[0][0] == 1


async def test_an_old_connection_is_replaced(url: str) -> None:
    pid = sa.select(sa.func.pg_backend_pid())
    async with open_store(url, connection=ConnectionOptions(pool_size=1, max_overflow=0, pool_recycle=0.2)) as store:
        first = await _rows(store, pid)
        assert await _rows(store, pid) == first
        await asyncio.sleep(1.1)
        assert await _rows(store, pid) != first


async def test_a_host_that_does_not_answer_leaves_time_for_the_next(url: str, postgres_server: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    folder = sa.make_url(postgres_server).query["host"]
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = ConnectionOptions(
            host=[f"127.0.0.1:{port}", "127.0.0.1:1", str(folder)], connect_timeout=2, target_session_attrs="read-write"
        )
        async with asyncio.timeout(SOON), open_store(url, connection=options) as store:
            assert list(await store.contexts("nobody")) == []
        for wanted in ("prefer-standby", "primary", "any"):
            options = ConnectionOptions(host=["127.0.0.1:1", str(folder)], target_session_attrs=wanted)
            async with open_store(url, connection=options) as store:
                assert list(await store.contexts("nobody")) == []
        options = ConnectionOptions(host=["127.0.0.1:1", str(folder)], target_session_attrs="standby")
        with pytest.raises(Exception, match=r"standby|match"):
            await open_store(url, connection=options, open_seconds=0.1)
