"""TLS as libpq means it, with both drivers: what is encrypted, whom a program trusts, and what it shows of itself."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
import trustme

from taskctx_sql import ConnectionOptions, open_store, schema
from taskctx_sql.errors import InvalidDatabaseUrlError, StoreFailedError, TaskContextError
from tests.support.tls import TlsServer

DRIVERS = ("asyncpg", "psycopg")


class Files(NamedTuple):
    """The certificates that a program is given: whom it trusts, others, and its own."""

    root: str
    other: str
    certificate: str
    key: str
    server: ssl.SSLContext
    # Wants the program's certificate.
    strict: ssl.SSLContext


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    own = authority.issue_cert("client@example.org")
    root, foreign = folder / "root.crt", folder / "other.crt"
    authority.cert_pem.write_to_path(str(root))
    other.cert_pem.write_to_path(str(foreign))
    certificate, key = folder / "client.crt", folder / "client.key"
    own.cert_chain_pems[0].write_to_path(str(certificate))
    own.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    contexts = []
    for wants in (ssl.CERT_NONE, ssl.CERT_REQUIRED):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = wants
        contexts.append(context)
    return Files(str(root), str(foreign), str(certificate), str(key), *contexts)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificates of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))


@asynccontextmanager
async def _serving(server_url: str, context: ssl.SSLContext | None) -> AsyncIterator[TlsServer]:
    async with TlsServer(server_url, context) as server:
        yield server


def _url(server: TlsServer, driver: str, host: str, query: str) -> str:
    url = sa.make_url(server.url).set(drivername=f"postgresql+{driver}", host=host)
    return f"{url.render_as_string(hide_password=False)}?{query}"


async def _encrypted(server: TlsServer, url: str, **options: Any) -> bool:
    """Return whether a store that is opened there has TLS."""
    async with open_store(url, open_seconds=5, connection=ConnectionOptions(**options)) as store:
        assert list(await store.contexts("nobody")) == []
    return server.encrypted[-1]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_each_mode_means_what_libpq_says(driver: str, files: Files, postgres_url: str) -> None:
    trusted, other = f"sslrootcert={files.root}", f"sslrootcert={files.other}"
    # The certificate is of localhost.
    expected: dict[tuple[str, str], bool | str] = {
        ("localhost", "sslmode=disable"): False,
        ("localhost", "sslmode=allow"): False,
        ("localhost", "sslmode=prefer"): True,
        ("localhost", ""): True,
        ("127.0.0.1", "sslmode=require"): True,
        ("127.0.0.1", f"sslmode=require&{trusted}"): True,
        ("localhost", f"sslmode=require&{other}"): "certificate",
        ("127.0.0.1", f"sslmode=verify-ca&{trusted}"): True,
        ("localhost", f"sslmode=verify-ca&{other}"): "certificate",
        ("localhost", f"sslmode=verify-full&{trusted}"): True,
        ("127.0.0.1", f"sslmode=verify-full&{trusted}"): "127.0.0.1",
        ("localhost", f"sslmode=verify-full&{other}"): "certificate",
        ("localhost", "sslmode=verify-full"): "root",
    }
    async with _serving(postgres_url, files.server) as server:
        for (host, query), result in expected.items():
            url = _url(server, driver, host, query)
            if isinstance(result, bool):
                assert await _encrypted(server, url) is result, query
                continue
            # At once: no other attempt would help.
            with pytest.raises(StoreFailedError, match=result):
                await _encrypted(server, url)
    async with _serving(postgres_url, None) as server:
        assert await _encrypted(server, _url(server, driver, "localhost", "sslmode=prefer")) is False
        for query in ("sslmode=require", f"sslmode=verify-full&{trusted}"):
            with pytest.raises(StoreFailedError, match=r"SSL"):
                await _encrypted(server, _url(server, driver, "localhost", query))


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_program_shows_its_certificate(driver: str, files: Files, postgres_url: str) -> None:
    own = f"sslcert={files.certificate}&sslkey={files.key}"
    async with _serving(postgres_url, files.strict) as server:
        url = _url(server, driver, "localhost", f"sslmode=verify-full&sslrootcert={files.root}")
        assert await _encrypted(server, f"{url}&{own}")
        with pytest.raises(TaskContextError):
            await _encrypted(server, url)
        plain = _url(server, driver, "localhost", "sslmode=disable")
        # Arguments win over the address.
        options = {"sslmode": "verify-full", "sslrootcert": files.root, "sslcert": files.certificate}
        assert await _encrypted(server, plain, **options, sslkey=files.key)
        assert await schema.current(f"{url}&{own}") == await schema.head()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_the_system_trusts_is_trusted(
    driver: str, files: Files, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _serving(postgres_url, files.server) as server:
        for file, trusted in ((files.root, True), (files.other, False)):
            monkeypatch.setenv("SSL_CERT_FILE", file)
            url = _url(server, driver, "localhost", "sslrootcert=system")
            if trusted:
                assert await _encrypted(server, url)
                assert await _encrypted(
                    server, f"{url}&sslmode=verify-full&sslcert={files.certificate}&sslkey={files.key}"
                )
            else:
                with pytest.raises(StoreFailedError, match="certificate"):
                    await _encrypted(server, url)
            with pytest.raises(StoreFailedError, match=r"127\.0\.0\.1|certificate"):
                await _encrypted(server, url.replace("localhost", "127.0.0.1"))
        with pytest.raises(InvalidDatabaseUrlError, match=r"sslrootcert=system needs sslmode=verify-full"):
            await _encrypted(server, f"{url}&sslmode=require")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
async def test_a_file_that_is_not_there_is_named(driver: str, name: str) -> None:
    url = f"postgresql+{driver}://me@localhost:1/db?sslmode=require&{name}=/nowhere/x.pem"
    for use in (open_store, schema.upgrade):
        with pytest.raises(InvalidDatabaseUrlError, match=f"{name} names a file that does not exist, /nowhere/x.pem"):
            await use(url)


async def test_channel_binding_is_never_left_out(files: Files, postgres_url: str) -> None:
    async with _serving(postgres_url, files.server) as server:
        # Neon's. The server here asks for no password, so there is nothing to bind.
        url = _url(server, "asyncpg", "localhost", "sslmode=require&channel_binding=require")
        for address in (url.replace("+asyncpg", ""), url.replace("asyncpg", "psycopg")):
            with pytest.raises(StoreFailedError, match="channel binding"):
                await _encrypted(server, address)
        with pytest.raises(InvalidDatabaseUrlError, match=r"channel_binding cannot .* asyncpg .*sslmode=verify-full"):
            await _encrypted(server, url)
        assert await _encrypted(server, url.replace("binding=require", "binding=prefer"))
