"""What a framework's own suite is: where it comes from, what of it is run, and which of its tests do not pass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Engine = Literal["sqlite", "postgres"]


@dataclass(frozen=True)
class Known:
    """Tests that are known not to pass, and why.

    Attributes:
        tests: A regular expression for the whole of their ids, from the suite's folder.
        reason: Why they do not pass.
        engine: The only engine where they do not; None for both.
        may_pass: Whether they pass in other versions of the suite.
        waits: Whether they are not run, because they would wait without end for something that only the framework's
            own store does.
    """

    tests: str
    reason: str
    engine: Engine | None = None
    may_pass: bool = False
    waits: bool = False

    def covers(self, test: str, engine: Engine) -> bool:
        return self.engine in (None, engine) and re.fullmatch(self.tests, test) is not None


@dataclass(frozen=True)
class Suite:
    """A framework's own suite.

    Attributes:
        package: The distribution whose installed version says which version of the suite is run.
        tests: What pytest is given: paths in the source; or paths in plugins/, if there is no repository.
        folders: Folders that each need a pytest of their own, and what it is given; in place of ``tests``.
        plugin: The module in plugins/ that puts our store in place of the framework's.
        repository: The Git repository whose tag has the tests; empty if they are installed with the package.
        tag: The tag, with ``{version}`` for the version.
        sdist: Take the source from the package's source distribution, which has the tests.
        requires: The distributions that the tests need, for the message when one is missing.
        options: More options of pytest.
        known: The tests that do not pass.
        has_baseline: Whether the framework's own code needs no server. Then it is asked, too, when a test fails that is
            not known: one that fails over both says nothing of ours, such as one of another version of the framework.
    """

    package: str
    plugin: str
    tests: Sequence[str] = ()
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    repository: str = ""
    tag: str = "v{version}"
    sdist: bool = False
    requires: Sequence[str] = ()
    options: Sequence[str] = ()
    known: Sequence[Known] = ()
    has_baseline: bool = False

    def known_for(self, test: str, engine: Engine) -> Known | None:
        """What is known of a test that does not pass, or None."""
        return next((known for known in self.known if known.covers(test, engine)), None)
