"""Frameworks' own suites: how they are fetched, and what is said of their tests."""

from __future__ import annotations

import importlib.metadata
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import pytest

from tests.integrations.suites.run import run
from tests.integrations.suites.source import prepare
from tests.integrations.suites.suite import Known, Suite

# The plugin stands for one that puts our store in the place of the framework's.
_PLUGIN = "tests.integrations.suites.suite"
_TESTS = f"""
import sys

import pytest

def test_passes(): pass
def test_known(): assert False
@pytest.mark.skip
def test_known_and_skipped_by_the_suite(): pass
def test_fails_with_ours(): assert "{_PLUGIN}" not in sys.modules
def test_fails_with_both(): assert False
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a repository whose tag of the installed version has other tests than its newest commit."""
    folder = tmp_path_factory.mktemp("framework")

    def git(*arguments: str) -> None:
        names = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)

    git("init")
    for tests, tag in ((_TESTS, f"v{importlib.metadata.version('pytest')}"), ("assert False", "newer")):
        (folder / "test_stores.py").write_text(tests)
        git("add", ".")
        git("commit", "-m", tag)
        git("tag", tag)
    return folder.as_uri()


def test_the_tag_of_the_installed_version_is_fetched_and_its_failures_are_explained(
    repository: str, tmp_path: Path
) -> None:
    known = (Known(r"test_stores\.py::test_known.*", "it looks at rows"),)
    suite = Suite("pytest", _PLUGIN, ("test_stores.py",), repository=repository, known=known, has_baseline=True)
    source = prepare(suite, None, tmp_path)
    result = run(suite, source, "sqlite", "sqlite://", own=False, options=("-p", "no:cacheprovider"))
    assert result.passed == ["test_stores.py::test_passes"]
    assert list(result.known) == ["test_stores.py::test_known", "test_stores.py::test_fails_with_both"]
    assert result.unknown == ["test_stores.py::test_fails_with_ours"]
    assert result.skipped == ["test_stores.py::test_known_and_skipped_by_the_suite"]
    assert not result.as_expected


def test_a_tag_or_a_package_that_is_not_there_is_an_error_with_a_remedy(repository: str, tmp_path: Path) -> None:
    suite = Suite("pytest", _PLUGIN, repository=repository, tag="none-{version}")
    with pytest.raises(click.ClickException, match=r"--source.*none-"):
        prepare(suite, None, tmp_path)
    with pytest.raises(click.ClickException, match="pip install no-such-package"):
        prepare(replace(suite, requires=["pytest", "no-such-package"]), None, tmp_path)
