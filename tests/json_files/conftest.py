"""A folder of files, another one, and a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskctx_sql import JsonStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tasks"
    made.mkdir()
    return made


@pytest.fixture
def other(tmp_path: Path) -> Path:
    made = tmp_path / "other"
    made.mkdir()
    return made


@pytest.fixture
def store(folder: Path) -> JsonStore:
    return JsonStore(folder, retry_seconds=0.3)
