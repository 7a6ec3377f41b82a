"""Random programs over every store, against a plain model: a short round of `tests.chaos.models`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.models import TRIALS
from tests.chaos.trial import Setup, Trial


@pytest.mark.wide
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
async def test_random_programs_come_out_as_the_model_says(
    request: pytest.FixtureRequest, tmp_path: Path, trial: Trial
) -> None:
    def postgres_url() -> str:
        return str(request.getfixturevalue("postgres_server"))

    result = await trial.run(Setup(trial.short, tmp_path, lambda line: None, postgres_url))
    assert result.complaints == [], "\n".join(result.complaints)
