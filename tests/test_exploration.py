"""The exploration: a short round on each kind of store, and what shows that it notices what it is there for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.chaos.explore import looking, running
from tests.chaos.explore.command import main, new_place
from tests.chaos.explore.exploring import Found, explore
from tests.chaos.explore.known import is_left_out
from tests.chaos.explore.places import KINDS, Place

# A run on a folder costs a few hundredths of a second, one on Postgres some tenths.
RUNS = {"json": 120, "sqlite": 48, "postgres": 16, "sqlite-engine": 20, "postgres-engine": 10}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has much else to do is slow, and nothing hangs."""
    for module in (running, looking):
        monkeypatch.setattr(module, "HANG_SECONDS", 60.0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_thing_at_any_point_loses_doubles_and_tears_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    server = str(request.getfixturevalue("postgres_server")) if kind.startswith("postgres") else ""
    with new_place(kind, server) as place:
        found = explore(place, itertools.count(1), runs=RUNS[kind], a_program=RUNS[kind] // 4, leaves_out=is_left_out)
    assert found.failures == []
    assert found.points.total() >= RUNS[kind]


def test_a_seed_and_a_number_run_the_same_again(tmp_path: Path) -> None:
    place = Place("json", f"json:///{tmp_path}/tasks")

    def run() -> Found:
        return explore(place, iter([4]), number=3)

    assert run().points == run().points
    assert run().points.total() == 1


def test_the_command_counts_what_it_explored(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["json", "--minutes", "0.02", "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert "json: " in result.output
    assert '"kind": "json"' in figures.read_text()
