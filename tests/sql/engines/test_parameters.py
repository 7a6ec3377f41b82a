"""Addresses as libpq, managed services and people write them, and what the drivers are told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from taskctx_sql import ConnectionOptions, open_store, schema
from taskctx_sql.errors import InvalidDatabaseUrlError, StoreFailedError
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import parameters
from tests.sql.engines.connects import DRIVERS, Connects, subset

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
    assert subset(found, expected) == expected


async def test_an_address_of_azure_that_was_not_escaped_says_how(told: Connects) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match="%40"):
        await told("postgresql://me@myserver:pw@myserver.postgres.database.azure.com/postgres")


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
        assert subset(found, expected) == expected
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
