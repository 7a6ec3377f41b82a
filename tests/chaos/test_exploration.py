"""The exploration: a short round on each kind of store, and what shows that it notices what it is there for."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskctx_sql import TaskContext
from tests.chaos.explore import looking, running
from tests.chaos.explore.command import main, new_place
from tests.chaos.explore.exploring import explore, run
from tests.chaos.explore.figures import Found
from tests.chaos.explore.loop import SteppingLoop
from tests.chaos.explore.model import add
from tests.chaos.explore.patience import HangError, Pulse, in_time
from tests.chaos.explore.places import Place
from tests.chaos.explore.running import Run
from tests.chaos.explore.statements import watched
from tests.conftest import CITUS_URL
from tests.support.connections import ON_POSTGRES, ON_SQLITE, Connection, available

# A run on a folder costs a few hundredths of a second, one on Postgres some tenths.
# A busy machine explores fewer of them.
SECONDS = 6.0
RUNS = {"json": 120, "sqlite": 48, "postgres": 16, "sqlite engine": 20}
RUNS_ELSEWHERE = 10


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has much else to do is slow, and nothing hangs."""
    for module in (running, looking):
        monkeypatch.setattr(module, "HANG_SECONDS", 60.0)


@pytest.mark.wide
@pytest.mark.parametrize("over", ["json", *ON_SQLITE, *available(CITUS_URL)])
def test_one_thing_at_any_point_loses_doubles_and_tears_nothing(over: str, request: pytest.FixtureRequest) -> None:
    server = str(request.getfixturevalue("postgres_server")) if over in ON_POSTGRES else CITUS_URL
    runs = RUNS.get(over, RUNS_ELSEWHERE)
    with new_place(over, server) as place:
        found = explore(
            place,
            itertools.count(1),
            runs=runs,
            a_program=runs // 4,
            seconds=SECONDS,
        )
    assert found.failures == []
    assert found.points.total() > 0


def test_a_seed_and_a_number_run_the_same_again(tmp_path: Path) -> None:
    place = Place(Connection("json", f"json:///{tmp_path}/tasks"))

    def run() -> Found:
        return explore(place, iter([4]), number=3)

    assert run().points == run().points
    assert run().points.total() == 1


def test_a_context_beside_the_programs_own_that_was_deleted_is_loaded_as_the_error_says(tmp_path: Path) -> None:
    async def delete_one_in_memory(one: Run) -> None:
        beside = TaskContext({"user_id": "u1", "chat_id": "beside"}, store=one.store)
        add(beside, "m001")
        await beside.save()
        one.is_deleted = await one.store.delete(beside.key)
        add(beside, "m002")
        await one.until_done(beside.save, beside)
        assert not beside.has_unsaved_changes

    place = Place(Connection("json", f"json:///{tmp_path}/tasks"))
    with watched(), Pulse() as pulse, asyncio.Runner(loop_factory=SteppingLoop) as runner:
        make = partial(Run, place, None, pulse, patient=True, retry_seconds=0.0, strict=False)
        outcome = runner.run(run(make, [delete_one_in_memory]))
    assert outcome.problems == []
    assert outcome.trace == ["LostContextError"]


def test_the_command_counts_what_it_explored(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["json", "--minutes", "0.02", "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert "acknowledged" in result.output
    (found,) = json.loads(figures.read_text())
    assert (found["store"], found["lost"], found["doubled"], found["torn"], found["hangs"]) == ("json", 0, 0, 0, 0)
    assert found["points"] > 0
    assert found["acknowledged"] > 0


def test_an_edit_of_what_somebody_removed_is_written_at_the_end(tmp_path: Path) -> None:
    # A folder has no identity of a file: one that was pruned, and made anew by somebody else, is one that was changed.
    place = Place(Connection("json", f"json:///{tmp_path}/tasks"))
    found = explore(place, iter([71_002]), number=2)
    assert found.failures == []
    assert found.points.total() == 1


async def test_what_is_late_hangs_unless_the_machine_was_the_reason() -> None:
    with Pulse() as pulse:
        assert await in_time(pulse, asyncio.ensure_future(asyncio.sleep(0)), 5.0) == 0.0
        with pytest.raises(HangError, match="not back after"):
            await in_time(pulse, asyncio.get_running_loop().create_future(), 0.05)
        owed = pulse.owed()
        # Nothing of Python goes on meanwhile, as on a machine that has no time.
        ctypes.PyDLL(None).usleep(500_000)
        assert pulse.owed() - owed > 0.3


def test_problems_are_counted_by_their_kind() -> None:
    found = Found()
    found.fail(1, 2, "what", ["lost in the store: m001", "torn in memory: m002 is there in part", "it hangs: not back"])
    found.fail(1, 3, "what", ["left behind: ['1 connections']", "it ended with ValueError: doubled: m003", "odd"])
    assert found.problems == dict.fromkeys(("lost", "torn", "hangs", "leaks", "doubled", "other"), 1)
