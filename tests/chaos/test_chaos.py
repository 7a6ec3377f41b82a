"""The chaos harness: a short round of each of its tests, and what shows that it notices what it is there for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from taskctx_sql import ContextKey, open_store
from taskctx_sql.model import Loaded
from tests.chaos import models, rolling
from tests.chaos.__main__ import kinds_of, main
from tests.chaos.marks import USER, Acknowledged, Findings, add_step, compare, context_of
from tests.chaos.powercut import what_remains
from tests.chaos.proxy import HOLD_SECONDS, Cut, Proxy
from tests.chaos.shim import Step
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.trials import TRIALS
from tests.conftest import CITUS_URL
from tests.support.connections import PLAIN
from tests.support.postgres import ask, new_database


@pytest.fixture
def chaos_folder() -> Iterator[Path]:
    """A folder with a short path, as sockets and other users need it."""
    folder = Path(tempfile.mkdtemp(prefix="taskctx-chaos-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def run(
    request: pytest.FixtureRequest, folder: Path, trial: Trial, *, cycles: int = 0, breaks: str = "", over: str = PLAIN
) -> Result:
    def postgres_url() -> str:
        return str(request.getfixturevalue("postgres_server"))

    told: list[str] = []
    return await trial.run(Setup(cycles or trial.short, folder, told.append, postgres_url, breaks, CITUS_URL, over))


def named(name: str) -> Trial:
    return next(trial for trial in TRIALS if trial.name == name)


RUN_HERE = [
    pytest.param(trial, kind, id=f"{trial.name} {kind}".rstrip())
    for trial in TRIALS
    if trial not in models.TRIALS and (CITUS_URL or not trial.on_citus)
    for kind in kinds_of(trial, "all" if trial.over else None, CITUS_URL)
]


@pytest.mark.wide
@pytest.mark.parametrize(("trial", "over"), RUN_HERE)
async def test_nothing_acknowledged_is_lost(
    request: pytest.FixtureRequest, chaos_folder: Path, trial: Trial, over: str
) -> None:
    result = await run(request, chaos_folder, trial, over=over)
    assert result.complaints == []
    assert result.cycles >= trial.short


# What the harness must notice.

BROKEN = [
    ("sqlite-kill-1", "ack-first", "lost", 6),
    ("sqlite-kill-3", "no-lock", "complaints", 6),
    ("power-cut", "no-fsync", "complaints", 10),
    ("json-kill", "ack-first", "lost", 8),
    ("commit-cut", "retry-blindly", "doubled", 10),
    ("cancel-storm-sqlite", "no-waiting", "problems", 60),
    ("cancel-storm-postgres", "no-waiting", "problems", 60),
    ("cancel-storm-sqlite", "hold-lock", "longest", 10),
]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "breaks", "kind", "cycles"), BROKEN, ids=lambda value: str(value))
async def test_code_that_is_broken_on_purpose_is_caught(
    request: pytest.FixtureRequest, chaos_folder: Path, name: str, breaks: str, kind: str, cycles: int
) -> None:
    # Whether a kill meets the moment that matters is chance, and a rare one on some machines.
    for _ in range(8):
        result = await run(request, chaos_folder, named(name), cycles=cycles, breaks=breaks)
        if result.complaints and is_noticed(result, kind):
            return
        for left in chaos_folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    pytest.fail(f"no {kind}: {result}")


def is_noticed(result: Result, kind: str) -> bool:
    """Whether a result has what the harness must notice."""
    if kind == "longest":
        assert result.limit is not None
        return result.longest > result.limit
    return bool(getattr(result.findings if kind in ("lost", "doubled") else result, kind))


@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "autocommit"])
@pytest.mark.parametrize("cut", [None, *Cut])
async def test_the_proxy_cuts_where_a_write_becomes_durable(
    postgres_server: str, cut: Cut | None, transaction: bool
) -> None:
    async with new_database(postgres_server, upgraded=False) as url, Proxy(url, lambda: cut) as proxy:
        await ask(url, "CREATE TABLE rows (number int)")
        connection = await asyncpg.connect(proxy.url)
        assert await connection.fetchval("SELECT count(*) FROM rows") == 0
        assert proxy.decisive == 0

        async def write() -> None:
            if transaction:
                async with connection.transaction():
                    await connection.execute("INSERT INTO rows VALUES ($1)", 1)
            else:
                await connection.execute("INSERT INTO rows VALUES ($1)", 1)

        if cut is None:
            await write()
        else:
            with pytest.raises((OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
                await write()
        assert (proxy.decisive, proxy.cuts) == (1, int(cut is not None))
        seen = await ask(url, "SELECT count(*) FROM rows")
        assert seen == (1 if cut in (None, Cut.ANSWER_LOST) else 0)
        await asyncio.sleep(HOLD_SECONDS + 0.2 if cut is Cut.LATE else 0)
        assert await ask(url, "SELECT count(*) FROM rows") == (0 if cut is Cut.LOST else 1)
        await connection.close()


async def _three_saves(folder: Path) -> tuple[Loaded, list[Acknowledged]]:
    async with open_store(f"sqlite:///{folder}/x.db") as store:
        context = context_of(store, "c")
        for number in (1, 2, 3):
            add_step(context, "w", number)
            await context.save()
        loaded = await store.load(ContextKey(USER, "c"))
    return loaded, [Acknowledged("w", number, 0.0, 0.0) for number in (1, 2, 3)]


def _found(findings: Findings) -> dict[str, int]:
    counts = {kind: getattr(findings, kind) for kind in ("lost", "doubled", "partial", "gaps")}
    return {kind: count for kind, count in counts.items() if count}


DAMAGE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "none": ({}, set()),
    "the last save is gone": ({"updates": slice(0, 6), "files": slice(0, 2), "models": slice(0, 2)}, {"lost"}),
    "one in the middle is gone": (
        {"updates": [0, 1, 2, 6, 7, 8], "files": [0, 2], "models": [0, 2]},
        {"lost", "gaps"},
    ),
    "an update is gone": ({"updates": slice(0, 8)}, {"partial"}),
    "a file is gone": ({"files": slice(0, 2)}, {"partial"}),
    "a model is gone": ({"models": slice(1, 3)}, {"partial"}),
    "a save is there twice": ({"updates": [*range(9), 6, 7, 8], "models": [0, 1, 2, 2]}, {"doubled", "gaps"}),
    "a model is there twice": ({"models": [0, 1, 2, 2]}, {"doubled"}),
    "two saves changed places": ({"updates": [3, 4, 5, 0, 1, 2, 6, 7, 8]}, {"gaps"}),
    "a save is torn apart": ({"updates": [0, 1, 3, 2, 4, 5, 6, 7, 8]}, {"gaps"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_the_checker_sees_damage(tmp_path: Path, damage: str) -> None:
    loaded, acknowledged = await _three_saves(tmp_path)
    changes, expected = DAMAGE[damage]
    damaged: dict[str, Any] = {}
    for name, places in changes.items():
        old = list(getattr(loaded, name))
        damaged[name] = old[places] if isinstance(places, slice) else [old[place] for place in places]
    if "updates" in damaged:
        rows = damaged.pop("updates")
        damaged |= {"history": [row.update for row in rows], "seqs": [row.seq for row in rows]}
    loaded = replace(loaded, **damaged)
    assert set(_found(compare(loaded, acknowledged, trackers=True))) == expected


def _wrote(name: str, letter: str, size: int = 1024) -> Step:
    return Step("W", name, 0, letter.encode() * size)


def test_a_power_cut_keeps_what_was_fsynced_and_any_blocks_of_the_rest() -> None:
    steps = [
        _wrote("a", "x"),
        Step("B", "a", 7, b""),
        _wrote("a", "y"),
        Step("S", "a", 7, b""),
        Step("T", "a", 512, b""),
    ]
    assert what_remains({}, steps, 0.0) == {"a": b"x" * 1024}
    assert what_remains({}, steps, 1.0) == {"a": b"y" * 512}
    seen = {what_remains({}, steps, 0.5)["a"] for _ in range(200)}
    blocks = {letter * 512 for letter in (b"x", b"y")}
    assert seen == {one + other for one in blocks for other in blocks} | blocks
    assert what_remains({"b": b"old", "c-shm": b"memory"}, steps, 0.0)["b"] == b"old"
    assert what_remains({"c-shm": b"memory"}, [], 1.0) == {}


def test_a_power_cut_brings_back_a_name_whose_removal_was_not_fsynced() -> None:
    steps = [Step("U", "a", 0, b""), _wrote("a", "n", 3)]
    assert what_remains({"a": b"old"}, steps, 0.0) == {"a": b"old"}
    assert what_remains({"a": b"old"}, steps, 1.0) == {"a": b"nnn"}
    synced = [Step("U", "a", 0, b""), Step("B", "", 7, b""), Step("S", "", 7, b"")]
    assert what_remains({"a": b"old"}, synced, 0.0) == {}


def test_the_command_prints_a_table_writes_figures_and_fails_if_any_is_bad(tmp_path: Path) -> None:
    runner = CliRunner()
    figures = tmp_path / "figures.json"
    good = runner.invoke(main, ["json-kill", "--cycles", "2", "--json", str(figures)])
    assert good.exit_code == 0, good.output
    assert '"verdict": "ok"' in figures.read_text()
    bad = runner.invoke(main, ["json-kill", "--cycles", "8", "--break", "ack-first"])
    assert bad.exit_code == 1
    assert "was acknowledged" in bad.output
    listed = runner.invoke(main, ["--list"])
    assert all(trial.name in listed.output for trial in TRIALS)
    assert runner.invoke(main, ["no such test"]).exit_code == 2
    without = runner.invoke(main, ["citus-kill"], env={"TASKCTX_TEST_CITUS_URL": ""})
    assert without.exit_code == 2
    assert "citus-kill: not run, as neither --citus-url nor TASKCTX_TEST_CITUS_URL names a Citus" in without.output


@pytest.mark.wide
def test_a_rolling_upgrade_is_watched(monkeypatch: pytest.MonkeyPatch, postgres_server: str) -> None:
    monkeypatch.setattr(rolling, "BEFORE", 2)
    monkeypatch.setattr(rolling, "AFTER", 2)
    command = ["--old", str(rolling.PROJECT), "--cycles", "1", "--postgres-url", postgres_server]
    good = CliRunner().invoke(rolling.main, command)
    assert good.exit_code == 0, good.output
    monkeypatch.setattr(rolling, "PROGRAM", rolling.PROGRAM.replace("await context.save()", "pass"))
    bad = CliRunner().invoke(rolling.main, command)
    assert bad.exit_code == 1
    assert "was acknowledged" in bad.output
