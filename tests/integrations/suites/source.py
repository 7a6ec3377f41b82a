"""Where a suite's files are: fetched, or in a folder that is named."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import click

from tests.integrations.suites.suite import Suite

PLUGINS = Path(__file__).parent / "plugins"


def prepare(suite: Suite, named: str | None, folder: Path) -> Path:
    """Return a folder that has the suite's tests, without the framework itself: the one that is installed is tested.

    See `_source` for the arguments.
    """
    if missing := [package for package in (suite.package, *suite.requires) if not _is_installed(package)]:
        raise click.ClickException(f"the suite needs more packages: pip install {' '.join(missing)}")
    source = _source(suite, named, folder)
    if source != PLUGINS:
        for name in {file.parts[0] for file in importlib.metadata.files(suite.package) or ()}:
            # Among the files are scripts, whose path begins with "..".
            if name.isidentifier() and (source / name / "__init__.py").exists():
                shutil.rmtree(source / name)
    return source


def _source(suite: Suite, named: str | None, folder: Path) -> Path:
    """Return a folder that has the suite's tests, from a named checkout or archive, or from a public address.

    Args:
        suite: Which one.
        named: A checkout, or a ``.tar.gz`` of one; None to fetch it.
        folder: Where it may be put. A named checkout is copied: tests write beside themselves.
    """
    if named is not None:
        source = Path(named).resolve()
        if source.is_file():
            return _unpacked(source, folder)
        return Path(shutil.copytree(source, folder / "source", symlinks=True, ignore=shutil.ignore_patterns(".git")))
    if not suite.repository and not suite.sdist:
        return PLUGINS
    version = importlib.metadata.version(suite.package)
    if suite.sdist:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
        _run([*pip, f"{suite.package}=={version}"])
        return _unpacked(next(folder.glob("*.tar.gz")), folder)
    tag = suite.tag.format(version=version)
    clone = ["git", "-c", "advice.detachedHead=false", "clone", "-q", "--depth", "1", "--branch", tag]
    _run([*clone, suite.repository, str(folder / "source")])
    return folder / "source"


def _is_installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def _unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return source


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        remedy = "name a checkout or an archive of it with --source"
        raise click.ClickException(f"the suite could not be fetched ({remedy}): {done.stderr.strip()[-400:]}")
