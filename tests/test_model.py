"""Random programs over every store, against a plain model: a short round of `tests.chaos.models`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.models import TRIALS
from tests.chaos.trial import Setup, Trial

# A first save to a JSON file that failed with its outcome unknown is written twice once the store has forgotten it.
KNOWN = pytest.mark.xfail(reason="a JSON store forgets a first save whose outcome is unknown", strict=False)


@pytest.mark.parametrize(
    "trial",
    [pytest.param(trial, marks=[KNOWN] if trial.name == "model-json" else []) for trial in TRIALS],
    ids=lambda trial: trial.name,
)
async def test_random_programs_come_out_as_the_model_says(
    request: pytest.FixtureRequest, tmp_path: Path, trial: Trial
) -> None:
    def postgres_url() -> str:
        return str(request.getfixturevalue("postgres_server"))

    result = await trial.run(Setup(trial.short, tmp_path, lambda line: None, postgres_url))
    assert result.complaints == []
