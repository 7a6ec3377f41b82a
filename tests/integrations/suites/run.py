"""Running a suite in a process of its own, and comparing what came of it with what is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.integrations.suites.source import PLUGINS
from tests.integrations.suites.suite import Engine, Suite

CHECKOUT = Path(__file__).parents[3]
_FAILS_ANYWAY = "fails over the framework's own code, too, of the version that is installed"


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        passed: The tests that passed.
        known: Those that did not, and are known not to, with the reasons.
        unknown: Those that did not, and should.
        mended: Those that passed, and are known not to.
        skipped: Those that the suite itself left out.
        exit_code: What pytest returned.
    """

    passed: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    exit_code: int = 0

    @property
    def as_expected(self) -> bool:
        """Whether exactly those tests did not pass that are known not to. A run that broke off is not."""
        return bool(self.passed) and not self.unknown and not self.mended and self.exit_code in (0, 1)


def run(
    suite: Suite, source: Path, engine: Engine, database_url: str, *, own: bool, options: tuple[str, ...]
) -> Result:
    """Run a suite's tests.

    Args:
        suite: Which one.
        source: The folder with its tests.
        engine: The engine of the database.
        database_url: A database at the newest schema.
        own: Keep the framework's own store in place.
        options: More options of pytest.
    """
    exit_code, outcomes = _run(suite, source, engine, database_url, own=own, options=options)
    result = _sorted(suite, engine, outcomes, exit_code, own=own)
    if result.unknown and suite.has_baseline and not own:
        _, baseline = _run(suite, source, engine, database_url, own=True, options=options)
        theirs = [test for test in result.unknown if baseline.get(test) == "failed"]
        result = replace(
            result,
            known=result.known | dict.fromkeys(theirs, _FAILS_ANYWAY),
            unknown=[test for test in result.unknown if test not in theirs],
        )
    return result


def _run(
    suite: Suite, source: Path, engine: Engine, database_url: str, *, own: bool, options: tuple[str, ...]
) -> tuple[int, dict[str, str]]:
    exit_code = 0
    outcomes: dict[str, str] = {}
    plugins = ("-p", "outcomes", *(() if own else ("-p", suite.plugin)))
    for folder, tests in (suite.folders or {"": suite.tests}).items():
        arguments = (*plugins, *suite.options, *options, *tests)
        code, found = _outcomes(source / folder, arguments, database_url, [] if own else _left_out(suite, engine))
        exit_code = max(exit_code, code)
        outcomes |= {f"{folder}/{test}" if folder else test: outcome for test, outcome in found.items()}
    return exit_code, outcomes


def _left_out(suite: Suite, engine: Engine) -> list[str]:
    """Return the patterns of the tests that would wait without end."""
    return [known.tests for known in suite.known if known.waits and known.engine in (None, engine)]


def _outcomes(
    folder: Path, arguments: Sequence[str], database_url: str, left_out: list[str]
) -> tuple[int, dict[str, str]]:
    """Return what pytest returned, and what came of each test; those that match ``left_out`` are skipped."""
    with tempfile.TemporaryDirectory() as written:
        outcomes = Path(written) / "outcomes"
        # Not in a package `tests`, since the suites have packages of that name.
        paths = [str(PLUGINS), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TASKCTX_SUITE_DATABASE_URL": database_url,
            "TASKCTX_SUITE_OUTCOMES": str(outcomes),
            "TASKCTX_SUITE_LEFT_OUT": json.dumps(left_out),
        }
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
        exit_code = subprocess.run(command, cwd=folder, env=environment).returncode
        lines = outcomes.read_text().splitlines() if outcomes.exists() else []
    return exit_code, dict(json.loads(line) for line in lines)


def _sorted(suite: Suite, engine: Engine, outcomes: dict[str, str], exit_code: int, *, own: bool) -> Result:
    result = Result(exit_code=exit_code)
    for test, outcome in outcomes.items():
        known = None if own else suite.known_for(test, engine)
        if outcome == "skipped" and not (known and known.waits):
            result.skipped.append(test)
        elif outcome == "passed":
            (result.mended if known and not known.may_pass else result.passed).append(test)
        elif known:
            result.known[test] = known.reason
        else:
            result.unknown.append(test)
    return result
