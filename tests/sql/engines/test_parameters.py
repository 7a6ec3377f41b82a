"""Addresses as libpq, managed services and people write them, and what the drivers are told."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa

from taskctx_sql import ConnectionOptions, JsonStore, open_store, schema
from taskctx_sql.errors import InvalidArgumentError, InvalidDatabaseUrlError, StoreFailedError
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import parameters
from tests.support.connections import with_driver
from tests.support.waiting import SOON

DRIVERS = ("asyncpg", "psycopg")
Connects = Callable[..., Any]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Connects:
    """Returns what the driver of an address is told when it connects, with its name."""
    got: dict[str, Any] = {}

    async def connect_psycopg(**settings: Any) -> None:
        got.update(settings)
        raise psycopg.OperationalError

    @functools.wraps(asyncpg.connect)
    async def connect_asyncpg(**settings: Any) -> None:
        got.update(settings)
        got.setdefault("hosts", []).append((settings.get("host"), settings.get("port")))
        raise OSError

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect_psycopg)
    monkeypatch.setattr(asyncpg, "connect", connect_asyncpg)
    for variable in ("PGAPPNAME", "PGOPTIONS"):
        monkeypatch.delenv(variable, raising=False)

    async def ask(url: str, options: ConnectionOptions | None = None, **more: Any) -> dict[str, Any]:
        got.clear()
        parsed = engines.parse_url(url, options or ConnectionOptions())
        engine = engines.create_engine(parsed, options or ConnectionOptions(), **more)
        with pytest.raises((sa.exc.DBAPIError, OSError)):
            await engine.connect()
        await engine.dispose()
        return {"driver": engine.driver, **got}

    return ask


def _subset(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    return {name: found.get(name) for name in expected}


# As managed services print them.

SERVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "neon": (
        "postgresql://me:npg_x@ep-cool-1.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
        {"driver": "psycopg", "host": "ep-cool-1.eu-central-1.aws.neon.tech", "dbname": "neondb", "password": "npg_x",
         "sslmode": "require", "channel_binding": "require", "application_name": "taskctx_sql"},
    ),
    "neon without sni": (
        "postgresql://me:x@ep-cool-1.aws.neon.tech/neondb?sslmode=require&options=endpoint%3Dep-cool-1",
        {"driver": "asyncpg", "dsn": "postgresql://?sslmode=require", "database": "neondb",
         "server_settings": {"application_name": "taskctx_sql", "options": "endpoint=ep-cool-1"}},
    ),
    "supabase direct": (
        "postgresql://postgres:p%40ss@db.abcdefgh.supabase.co:5432/postgres",
        {"driver": "asyncpg", "host": "db.abcdefgh.supabase.co", "port": 5432, "password": "p@ss", "user": "postgres"},
    ),
    "supabase pooler": (
        "postgresql://postgres.abcdefgh:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true",
        {"driver": "psycopg", "user": "postgres.abcdefgh", "port": 6543, "prepare_threshold": None, "options": None},
    ),
    "rds": (
        "postgresql://me:pw@db.abc.eu-central-1.rds.amazonaws.com:5432/app?sslmode=verify-full&sslrootcert={root}",
        {"driver": "asyncpg", "host": "db.abc.eu-central-1.rds.amazonaws.com", "database": "app",
         "dsn": "postgresql://?sslmode=verify-full&sslrootcert={quoted}"},
    ),
    "azure": (
        "postgresql://me%40myserver:pw@myserver.postgres.database.azure.com:5432/postgres?sslmode=require",
        {"driver": "asyncpg", "user": "me@myserver", "host": "myserver.postgres.database.azure.com"},
    ),
    "heroku": (
        "postgres://u1:p1@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1",
        {"driver": "asyncpg", "user": "u1", "database": "d1", "port": 5432, "dsn": None},
    ),
    "render": (
        "postgres://u:p@dpg-abc-a.frankfurt-postgres.render.com/d",
        {"driver": "asyncpg", "host": "dpg-abc-a.frankfurt-postgres.render.com", "port": None},
    ),
    "cloud sql": (
        "postgresql://me:pw@/app?host=/cloudsql/project:region:instance",
        {"driver": "asyncpg", "host": "/cloudsql/project:region:instance", "database": "app"},
    ),
    "aiven": (
        "postgres://avnadmin:pw@pg-1-x.aivencloud.com:12691/defaultdb?sslmode=require",
        {"driver": "asyncpg", "port": 12691, "dsn": "postgresql://?sslmode=require"},
    ),
    "digitalocean": (
        "postgresql://doadmin:pw@db-fra1-1-do-user-1-0.b.db.ondigitalocean.com:25060/defaultdb?sslmode=require",
        {"driver": "asyncpg", "port": 25060, "user": "doadmin"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
async def test_an_address_is_taken_as_a_service_prints_it(service: str, told: Connects, tmp_path: Path) -> None:
    address, expected = SERVICES[service]
    root = tmp_path / "global-bundle.pem"
    root.touch()
    found = await told(address.replace("{root}", str(root)))
    if service == "rds":
        expected = {**expected, "dsn": expected["dsn"].replace("{quoted}", str(root))}
    assert _subset(found, expected) == expected


async def test_an_address_of_azure_that_was_not_escaped_says_how(told: Connects) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match="%40"):
        await told("postgresql://me@myserver:pw@myserver.postgres.database.azure.com/postgres")


# The parameters of libpq.


@pytest.mark.parametrize(
    ("query", "by_asyncpg", "by_psycopg"),
    [
        ("connect_timeout=7", {"timeout": 7.0}, {"connect_timeout": 7}),
        ("connect_timeout=0", {"timeout": None}, {"connect_timeout": 0}),
        ("", {"timeout": 10.0}, {"connect_timeout": 10}),
        ("application_name=a%20b", {"server_settings": {"application_name": "a b"}}, {"application_name": "a b"}),
        ("fallback_application_name=x", {"server_settings": {"application_name": "x"}}, {"application_name": "x"}),
        ("options=-ca%3Dx&application_name=y", {"server_settings": {"application_name": "y", "options": "-ca=x"}},
         {"options": "-ca=x"}),
        ("sslmode=disable", {"dsn": "postgresql://?sslmode=disable"}, {"sslmode": "disable"}),
        ("ssl=require", {"dsn": "postgresql://?sslmode=require"}, {"sslmode": "require"}),
        ("sslmode=disable&sslrootcert=/nowhere", {"dsn": "postgresql://?sslmode=disable&sslrootcert=/nowhere"},
         {"sslrootcert": "/nowhere"}),
        ("sslpassword=a%26b%20", {"dsn": "postgresql://?sslpassword=a%26b%20"}, {"sslpassword": "a&b "}),
        ("sslnegotiation=direct&sslmode=require", {"dsn": "postgresql://?sslmode=require&sslnegotiation=direct"},
         {"sslnegotiation": "direct"}),
        ("target_session_attrs=standby", {"target_session_attrs": "standby"}, {"target_session_attrs": "standby"}),
        ("passfile=/x", {"passfile": "/x"}, {"passfile": "/x"}),
        ("service=x", {"service": "x"}, {"service": "x"}),
        ("user=other&password=pw&dbname=x", {"user": "other", "password": "pw", "database": "x"},
         {"user": "other", "password": "pw", "dbname": "x"}),
        ("client_encoding=utf8", {"client_encoding": None}, {"client_encoding": None}),
        ("channel_binding=prefer&gssencmode=disable", {"channel_binding": None}, {"channel_binding": "prefer"}),
        ("pgbouncer=TRUE", {"statement_cache_size": 0}, {"prepare_threshold": None}),
        ("host=/run/postgresql", {"host": "/run/postgresql"}, {"host": "/run/postgresql"}),
        ("host=a,b", {"hosts": [("a", 5432), ("b", 5432)]}, {"host": "a,b", "port": "5432,5432"}),
        ("host=a,b&port=1,2", {"hosts": [("a", 1), ("b", 2)]}, {"host": "a,b", "port": "1,2"}),
        ("host=a,b&port=6", {"hosts": [("a", 6), ("b", 6)]}, {"host": "a,b", "port": "6,6"}),
        ("host=a:1&host=b:2", {"hosts": [("a", 1), ("b", 2)]}, {"host": "a,b", "port": "1,2"}),
        ("host=a:1", {"host": "a", "port": 1}, {"host": "a", "port": "1"}),
    ],
)  # fmt: skip
async def test_a_parameter_means_the_same_with_both_drivers(
    query: str, by_asyncpg: dict[str, Any], by_psycopg: dict[str, Any], told: Connects
) -> None:
    for driver, expected in (("asyncpg", by_asyncpg), ("psycopg", by_psycopg)):
        found = await told(f"postgresql+{driver}://me@h/d?{query}")
        assert _subset(found, expected) == expected
    # libpq knows all that it is told.
    psycopg.conninfo.make_conninfo(
        **{n: v for n, v in found.items() if n not in ("driver", "context", "prepare_threshold")}
    )


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("postgresql://me:pw@a:1,b:2/d?target_session_attrs=read-write", [("a", 1), ("b", 2)]),
        ("postgresql://me@a,b/d", [("a", 5432), ("b", 5432)]), ("postgresql://a,b:2", [("a", 5432), ("b", 2)]),
        ("postgresql://me@[::1]:5,b:2/d", [("::1", 5), ("b", 2)]), ("postgresql://%2Frun%2Fx/d", [("/run/x", None)]),
        ("postgresql://me@%2Frun%2Fx:7/d", [("/run/x", 7)]),
    ],
)  # fmt: skip
async def test_hosts_are_taken_as_libpq_writes_them(address: str, hosts: list[Any], told: Connects) -> None:
    found = await told(address.replace("postgresql:", "postgresql+asyncpg:"))
    assert found["hosts"] == hosts
    assert "pw" not in engines.mask(address)
    assert engines.mask(address).startswith("postgresql://")
    found = await told(address.replace("postgresql:", "postgresql+psycopg:"))
    assert found["host"] == ",".join(host for host, _ in hosts)


@pytest.mark.parametrize("query", ["host=a,b&port=1,2,3", "host=a,&port=1,2", "port=70000", "host=a:1&host=b:2&port=3"])
def test_hosts_and_ports_that_do_not_belong_together_are_refused(query: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=r"the parameter (host|port) "):
        engines.parse_url(f"postgresql://me@/d?{query}")


@pytest.mark.parametrize("parameter", sorted(parameters._PSYCOPG_ONLY))
def test_what_asyncpg_does_not_have_is_psycopgs_or_refused(parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "channel_binding": "require", "gssencmode": "require", "load_balance_hosts": "random", "sslsni": "0",
        "sslcertmode": "require", "max_protocol_version": "3.2", "min_protocol_version": "3.0",
    }  # fmt: skip
    value = values.get(parameter, "1")
    address = f"postgresql://me@h/d?{parameter}={value}"
    assert engines.parse_url(address).drivername == "postgresql+psycopg"
    with pytest.raises(InvalidDatabaseUrlError, match=rf"{parameter} cannot be used here, since asyncpg .*psycopg://"):
        engines.parse_url(address.replace(":", "+asyncpg:", 1))
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidDatabaseUrlError, match=rf"{parameter} cannot .*taskctx_sql\[psycopg\]"):
        engines.parse_url(address)


@pytest.mark.parametrize(
    ("parameter", "advice"),
    [
        ("schema=x", "pass schema="), ("statement_timeout=9", "options=-c%20statement_"), ("sslmod=x", "sslmode"),
        ("connection_limit=1", "pool_size"), ("nonsense=1", "leave it out"), ("Host=x", "host"),
    ],
)  # fmt: skip
def test_an_unknown_parameter_is_named_with_what_to_do(parameter: str, advice: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=f"the parameter {parameter.partition('=')[0]} .*{advice}"):
        engines.parse_url(f"postgresql://me@h/d?{parameter}")


async def test_a_parameter_that_the_installed_libpq_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**parameters.POSTGRES, "from_the_future": parameters.POSTGRES["options"]}
    monkeypatch.setattr(parameters, "POSTGRES", known)
    with pytest.raises(InvalidDatabaseUrlError, match="from_the_future"):
        await open_store("postgresql+psycopg://me@h/d?from_the_future=1")


def test_two_names_of_one_parameter_are_refused() -> None:
    with pytest.raises(InvalidDatabaseUrlError, match="ssl and sslmode are the same"):
        engines.parse_url("postgresql://me@h/d?ssl=require&sslmode=disable")


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_environment_of_libpq_counts_where_the_address_is_silent(
    driver: str, told: Connects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGAPPNAME", "from-outside")
    monkeypatch.setenv("PGOPTIONS", "-c a.b=1")
    found = await told(f"postgresql+{driver}://me@h/d", lock_seconds=3)
    if driver == "asyncpg":
        expected = {"application_name": "from-outside", "options": "-c a.b=1", "lock_timeout": "3000"}
        assert found["server_settings"] == expected
    else:
        assert "application_name" not in found
        assert found["options"] == "-c lock_timeout=3000 -c a.b=1"


# SQLite's.


async def test_what_sqlite_reads_works_for_a_plain_path(tmp_path: Path) -> None:
    await schema.upgrade("sqlite:///a b.db")
    async with open_store("sqlite:///a b.db?mode=ro") as store:
        assert list(await store.contexts("nobody")) == []
    for query in (
        "mode=rw",
        "immutable=1",
        "cache=private",
        "timeout=3&cached_statements=9",
        "mode=memory",
    ):
        async with open_store(f"sqlite:///a b.db?{query}") as store:
            assert list(await store.contexts("nobody")) == []
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == ["a b.db"]
    with pytest.raises(StoreFailedError):
        await open_store("sqlite:///missing.db?mode=ro")
    assert not Path("missing.db").exists()


async def test_the_timeout_of_an_address_is_how_long_a_lock_is_waited_for() -> None:
    url = engines.parse_url("sqlite:///x.db?timeout=1.5")
    for options, milliseconds in ((ConnectionOptions(), 1500), (ConnectionOptions(lock_timeout=0.5), 500)):
        engine = engines.create_engine(url, options, lock_seconds=9)
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text("PRAGMA busy_timeout")) == milliseconds
        await engine.dispose()


@pytest.mark.parametrize(
    ("parameter", "advice"),
    [
        ("isolation_level=IMMEDIATE", "sets it itself"), ("check_same_thread=1", "sets it itself"),
        ("busy_timeout=1", "timeout="), ("mode=all", "one of ro, rw"), ("sslmode=require", "leave it out"),
    ],
)  # fmt: skip
async def test_what_has_no_meaning_on_sqlite_is_named(parameter: str, advice: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=f"the parameter {parameter.partition('=')[0]} .*{advice}"):
        await open_store(f"sqlite:///x.db?{parameter}")


# The options.


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
    assert _subset(found, expected) == expected
    found = await told(address.format("asyncpg"), options)
    expected = {"timeout": 3.0, "dsn": "postgresql://?sslmode=require", "hosts": [("a", 5432), ("b", 7)]}
    assert _subset(found, expected) == expected


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


# On a server.


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
