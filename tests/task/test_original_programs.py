"""The same calls under the same clock leave what they left with the original: recorded from aiecs 2.2.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import TaskContext

PROGRAMS = json.loads((Path(__file__).parents[1] / "fixtures" / "original_programs.json").read_text())


class OriginalClock:
    """The clock that the recordings were made under."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        self.now += 0.1 if self.looks % 3 else 0.0
        return self.now


def arguments(name: str, given: list[Any]) -> list[Any]:
    if name == "truncate_context_history":
        return [1_700_000_000.0 + 0.1 * given[1]]
    return given


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
async def test_a_recorded_program_leaves_the_same_dictionary_history_and_file(number: int, tmp_path: Path) -> None:
    program = PROGRAMS[number]
    async with TaskContext(program["data"], tmp_path, clock=OriginalClock()) as context:
        lengths = []
        for name, *given in program["calls"]:
            result = getattr(context, name)(*arguments(name, given))
            if hasattr(result, "__await__"):
                await result
            lengths.append(len(context.context_history))
        assert lengths == program["lengths"]
        assert json.dumps(context.to_dict()) == program["to_dict"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == program["files"]
