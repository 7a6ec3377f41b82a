"""An application with migrations of its own, on each engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ENGINES, wide
from tests.support.application import Application


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/app.db"
    return str(request.getfixturevalue(f"empty_{request.param}_url"))


@pytest.fixture
def create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Application]:
    """Creates an application on a database, with one of alembic's templates."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    return partial(Application, tmp_path)


@pytest.fixture(params=["generic", *wide("async")])
def application(request: pytest.FixtureRequest, url: str, create: Callable[..., Application]) -> Application:
    """An application on the database, with each of alembic's templates."""
    return create(url, str(request.param))


@pytest.fixture
def on_postgres(empty_postgres_url: str, create: Callable[..., Application]) -> Application:
    """An application on Postgres."""
    return create(empty_postgres_url, "generic")
