"""Stores of other packages: found by the scheme of the address, and refused by name where they are broken."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, TaskContext, open_store, settings, task_context, transfer
from taskctx_sql.errors import (
    InvalidArgumentError,
    InvalidDatabaseUrlError,
    InvalidSettingError,
    StorePluginError,
    UnknownSchemeError,
    UnsupportedByStoreError,
)
from tests.support.command import parsed, taskctx, taskctx_process
from tests.support.contract import new_delta, stored
from tests.support.third_store import guide_code, install

DATA = {"user_id": "u1", "chat_id": "c1", "metadata": {"language": "en"}}
KEY = ContextKey("u1", "c1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide's package is installed."""
    points = tomllib.loads(guide_code("toml"))["project"]["entry-points"]["taskctx_sql.stores"]
    ((scheme, value),) = points.items()
    return install(tmp_path_factory.mktemp("third"), "memory_store", guide_code("py"), scheme, value)


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guide's module, with no contexts in it."""
    monkeypatch.syspath_prepend(site)
    yield importlib.import_module("memory_store")
    del sys.modules["memory_store"]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with this code, which opens ``broken:``."""

    def add(code: str, scheme: str = "broken", value: str = "broken_store:open_it", name: str = "broken_store") -> None:
        monkeypatch.syspath_prepend(install(tmp_path / name, name, code, scheme, value, pip=False))

    yield add
    sys.modules.pop("broken_store", None)


@pytest.mark.usefixtures("installed")
async def test_an_address_opens_the_store_of_an_installed_package() -> None:
    async with open_store("memory://one", strict=True, retry_seconds=3) as store:
        await store.save(new_delta(KEY, "a"))
    async with task_context(DATA, database_url="memory://one") as context:
        assert [update.data for update in context.context_history] == ["a"]
        context.add_context_update("message", "b")
    with open_store("memory://one") as store:
        assert store.database_url == "memory://one"


@pytest.mark.usefixtures("installed")
async def test_the_scheme_may_be_in_capitals_and_the_address_arrives_as_it_was_written() -> None:
    with pytest.raises(InvalidDatabaseUrlError, match="memory: needs two slashes and a name"):
        await open_store("MEMORY://one")


@pytest.mark.usefixtures("installed")
async def test_what_the_store_leaves_out_is_unsupported() -> None:
    async with open_store("memory://two") as store:
        await store.save(new_delta(KEY, "a"))
        calls: tuple[Callable[[], Any], ...] = (
            lambda: store.reports,
            lambda: store.search("a"),
            lambda: store.watch(KEY),
            lambda: store.load(KEY, revision=1),
            lambda: store.revisions(KEY),
            lambda: store.difference(KEY, 1, 2),
            lambda: store.fork(KEY, "c2"),
        )
        for call in calls:
            with pytest.raises(UnsupportedByStoreError, match="memory://two cannot"):
                await call()


@pytest.mark.usefixtures("installed")
async def test_a_context_is_saved_edited_and_loaded() -> None:
    async with task_context(DATA, database_url="memory://three") as context:
        context.add_context_update("message", "Starting")
        context.track_file_operation("a.txt", "read")
        context.track_model_usage("m", "p", "chat", input_tokens=3)
        await context.save()
        context.context_history[0].data = "Edited"
        del context.file_tracker["a.txt"]
    async with open_store("memory://three") as store:
        again = TaskContext({"user_id": "u1", "chat_id": "c1"}, store=store, history_limit=2)
        await again.load()
        history = [update async for update in again.earlier_updates()][::-1] + again.context_history
    assert [update.update_type for update in history] == ["message", "file_operation", "model_usage"]
    assert history[0].data == "Edited"
    assert (again.metadata, list(again.file_tracker), len(again.model_tracker)) == ({"language": "en"}, [], 1)


@pytest.mark.usefixtures("installed")
async def test_the_variable_may_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTX_DATABASE_URL", "memory://four")
    async with task_context(DATA) as context:
        context.add_context_update("message", "a")
    async with open_store("memory://four") as store:
        assert await stored(store, KEY) == ["a"]
    assert settings.validate_config().database_url == "memory://four"
    monkeypatch.setenv("TASKCTX_DATABASE_URL", "memmory://four")
    with pytest.raises(InvalidSettingError, match="TASKCTX_DATABASE_URL"):
        settings.validate_config()


@pytest.mark.usefixtures("installed")
def test_the_command_works_with_it() -> None:
    with task_context(DATA, database_url="memory://five") as context:
        context.add_context_update("message", "hello")
    where = ("--database-url", "memory://five")
    assert parsed("show", "u1", "c1", *where)["context_history"][0]["data"] == "hello"
    assert taskctx("diagnose", "u1", "c1", *where).returncode == 0
    # What the store does not have is an error that names it.
    for command in (["list"], ["log", "u1", "c1"], ["report", "tasks"], ["search", "hello"]):
        done = taskctx(*command, *where)
        assert done.returncode == 1, command
        assert "memory://five" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("installed")
async def test_it_can_not_be_copied_yet_and_says_so(tmp_path: Path) -> None:
    async with task_context(DATA, database_url="memory://six") as context:
        context.add_context_update("message", "hello")
    with pytest.raises(InvalidDatabaseUrlError, match=r"memory://six.*it is not a database"):
        await transfer.copy("memory://six", f"sqlite:///{tmp_path}/x.db")


def run_contract(site: Path, folder: Path, *, more: str = "-q") -> str:
    """Run the guide's test as its reader does, with no plugin for async tests."""
    (folder / "test_memory_store.py").write_text(guide_code("py", 1))
    path = os.pathsep.join([str(site), *sys.path])
    plugins = ("asyncio", "anyio", "xdist", "cacheprovider", "langsmith_plugin")
    return subprocess.run(
        [sys.executable, "-m", "pytest", more, *(f"-pno:{plugin}" for plugin in plugins), "-W", "error"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    ).stdout


def test_the_store_of_the_guide_keeps_the_contract(site: Path, tmp_path: Path) -> None:
    summary = run_contract(site, tmp_path).splitlines()[-1]
    assert re.fullmatch(r"(\d+) passed in .*", summary), summary
    assert int(summary.split()[0]) > 80


@pytest.mark.wide
@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("raise LostContextError(delta.key)", "seen = 0"),
        ("delta.if_there and gone", "False"),
        ("deepcopy(self._records.get(key))", "self._records.get(key)"),
        ("Feature.METADATA, ", ""),
    ],
)
def test_the_contract_finds_what_is_broken(sound: str, broken: str, site: Path, tmp_path: Path) -> None:
    code = guide_code("py")
    assert code.count(sound) == 1
    mutated = tmp_path / "site"
    shutil.copytree(site, mutated, ignore=shutil.ignore_patterns("__pycache__"))
    (mutated / "memory_store.py").write_text(code.replace(sound, broken))
    assert " failed" in run_contract(mutated, tmp_path, more="-qx").splitlines()[-1]


def test_a_program_of_its_own_finds_it(site: Path) -> None:
    path = os.pathsep.join([str(site), *sys.path])
    done = taskctx_process("diagnose", "u1", "c1", "--database-url", "memory://one", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "there is no context ('u1', 'c1')" in done.stdout


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"schema": "s"}, "schema"),
        ({"transaction_pooling": True}, "transaction_pooling"),
        ({"read_url": "memory://y"}, "read_url"),
    ],
)
@pytest.mark.usefixtures("installed")
async def test_an_option_of_databases_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{named}=.*which memory: is not"):
        await open_store("memory://seven", **options)


@pytest.mark.usefixtures("installed")
async def test_an_unknown_scheme_lists_the_known_ones_and_no_password() -> None:
    with pytest.raises(UnknownSchemeError, match=r"mysql is not supported.* sqlite, postgresql, .*memory") as caught:
        await open_store("mysql://me:hidden@host/x")
    assert caught.value.scheme == "mysql"
    assert "memory" in caught.value.known
    assert "hidden" not in str(caught.value)


async def test_without_the_package_its_scheme_is_unknown() -> None:
    with pytest.raises(UnknownSchemeError, match="memory is not supported"):
        await open_store("memory://one")


BROKEN: list[tuple[str, str]] = [
    ("raise ImportError('no such thing')", "importing broken_store:open_it failed: ImportError: no such thing"),
    ("x = 1", "importing broken_store:open_it failed: AttributeError"),
    ("open_it = 1", "broken_store:open_it is not a function"),
    ("def open_it(url): ...", "opening failed: TypeError"),
    (
        "async def open_it(url, **options): return None",
        "opened is a NoneType without clear_updates, close, close_calls",
    ),
    (
        "async def open_it(url, **options): raise OSError(f'cannot reach {url}')",
        r"opening failed: OSError: cannot reach broken://\*\*\*",
    ),
    ("def open_it(url, **options): return 3", "opening failed: TypeError"),
]


@pytest.mark.parametrize(("code", "reason"), BROKEN)
async def test_a_broken_package_is_named(broken: Callable[..., None], code: str, reason: str) -> None:
    broken(code)
    with pytest.raises(StorePluginError, match=f"broken: come from broken_store 1.0.*{reason}") as caught:
        await open_store("broken://me:hidden@host/x")
    assert (caught.value.scheme, caught.value.package) == ("broken", "broken_store 1.0")
    assert "hidden" not in str(caught.value)


async def test_two_packages_for_one_scheme_are_named(broken: Callable[..., None]) -> None:
    broken("", name="broken_store")
    broken("", name="other_store")
    with pytest.raises(StorePluginError, match=r"come from broken_store 1\.0, other_store 1\.0"):
        await open_store("broken://x")


@pytest.mark.parametrize("scheme", ["sqlite", "json", "sqlite+mine", "postgresql"])
async def test_a_package_cannot_take_over_a_scheme_that_is_built_in(
    broken: Callable[..., None], scheme: str, tmp_path: Path
) -> None:
    broken("async def open_it(url, **options): raise KeyError('taken over')", scheme=scheme)
    if scheme in ("sqlite", "json"):
        async with open_store(f"{scheme}:///{tmp_path}/x.db") as store:
            assert type(store).__module__.startswith("taskctx_sql.")
    else:
        with pytest.raises(InvalidDatabaseUrlError, match=r"not supported|not a database URL"):
            await open_store(f"{scheme}:x://h/y")
    with pytest.raises(UnknownSchemeError) as caught:
        await open_store("other://x")
    assert [*caught.value.known] == ["sqlite", "postgresql", "postgres", "json"]
