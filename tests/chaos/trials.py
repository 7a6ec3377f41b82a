"""All tests of the harness, in the order in which they run."""

from __future__ import annotations

from tests.chaos import clusters, crowds, cuts, kills, models, outages, powercut, storms
from tests.chaos.trial import Trial

TRIALS: list[Trial] = [
    *kills.TRIALS,
    *powercut.TRIALS,
    *outages.TRIALS,
    *cuts.TRIALS,
    *storms.TRIALS,
    *crowds.TRIALS,
    *models.TRIALS,
    *clusters.TRIALS,
]
