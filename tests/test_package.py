"""The package: what importing it costs, and that the wheel works where there is no checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import taskctx_sql
from taskctx_sql.sql.schema import REVISIONS

CHECKOUT = Path(__file__).parent.parent


def run(*command: str | Path, folder: Path) -> str:
    # An index address that pip was given by the environment stays; the checkout is out of reach.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_importing_it_brings_no_database_along() -> None:
    code = (
        "import sys, taskctx_sql\n"
        "taskctx_sql.TaskContext({}, 'tasks').add_context_update('message', 1)\n"
        "others = {'sqlalchemy', 'alembic', 'aiosqlite', 'asyncpg', 'psycopg', 'click', 'rich', 'opentelemetry'}\n"
        "others |= {'taskctx_sql.integrations', 'genai_prices'}\n"
        "print(sorted(others & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", code, folder=Path.cwd()).strip() == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, CHECKOUT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.wide
def test_the_wheel_has_the_migrations_the_functions_and_the_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "taskctx_sql/py.typed" in names
    assert "taskctx_pytest.py" in names
    (points,) = [zipfile.ZipFile(wheel).read(name).decode() for name in names if name.endswith("/entry_points.txt")]
    assert "[pytest11]\ntaskctx_pytest = taskctx_pytest\n" in points
    assert {"taskctx_sql/migrations/env.py", "taskctx_sql/migrations/script.py.mako"} <= names
    versions = {path.name for path in (CHECKOUT / "taskctx_sql" / "migrations" / "versions").glob("*.py")}
    assert len(versions) == len(REVISIONS)
    folder = CHECKOUT / "taskctx_sql" / "sql" / "schema" / "functions"
    assert {f"taskctx_sql/sql/schema/functions/{path.name}" for path in folder.glob("*.sql")} <= names
    assert "taskctx_sql/sql/schema/functions/save_v1.sql" in names
    assert {f"taskctx_sql/migrations/versions/{name}" for name in versions} <= names
    assert not [name for name in names if name.startswith(("tests/", "migrations/"))]


@pytest.mark.wide
def test_the_links_of_the_description_lead_to_the_project_and_to_files_that_are_there(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    header, description = text.split("\n\n", 1)
    (address,) = re.findall(r"^Project-URL: Repository, (\S+)$", header, re.MULTILINE)
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert len(links) > 20
    version = f"v{taskctx_sql.__version__}"
    for link in links:
        parts = re.fullmatch(rf"{address}/(blob|raw)/{version}/([^#]+)(#[\w-]+)?", link)
        assert parts is not None, link
        kind, path = parts.group(1, 2)
        assert (CHECKOUT / path).is_file(), link
        assert (kind == "raw") == path.endswith(".png")


@pytest.mark.wide
def test_the_wheel_works_in_an_empty_environment_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    programs = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    work = tmp_path / "work"
    work.mkdir()
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(*pip, "install", "-q", "--no-compile", wheel, folder=work)

    assert "went from nothing" in run(programs / "taskctx", "upgrade", "-d", "sqlite:///tasks.db", folder=work)
    assert "The end of the timeline" in run(programs / "taskctx", "demo", folder=work)
    script = (
        "from taskctx_sql import task_context\n"
        "with task_context({'user_id': 'u', 'chat_id': 'c'}, database_url='sqlite:///tasks.db') as context:\n"
        "    context.add_context_update('message', 'hello')\n"
        "    print(len(context.context_history))\n"
    )
    assert run(programs / "python", "-W", "error", "-c", script, folder=work).strip() == "1"
    assert run(programs / "python", "-W", "error", "-c", script, folder=work).strip() == "2"
    assert "hello" in run(programs / "taskctx", "show", "u", "c", "--database-url", "sqlite:///tasks.db", folder=work)
    without_driver = [programs / "taskctx", "upgrade", "-d", "postgresql://me@127.0.0.1/x"]
    done = subprocess.run(list(map(str, without_driver)), capture_output=True, text=True, cwd=work)
    assert "pip install 'taskctx_sql[postgres]'" in done.stderr


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="the command is for a POSIX shell")
def test_the_first_command_of_the_readme_shows_a_task_within_half_a_minute(tmp_path: Path) -> None:
    (command,) = re.findall(r"^python3 -m venv .* demo$", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, clone)
    shutil.copytree(CHECKOUT / "taskctx_sql", clone / "taskctx_sql", ignore=shutil.ignore_patterns("__pycache__"))
    before = os.times()
    # The Python of these tests, whichever one `python3` is.
    shown = run("bash", "-c", command.replace("python3", sys.executable), folder=clone)
    after = os.times()
    assert "Runs" in shown
    assert "completed" in shown
    assert "Files by last operation: read" in shown
    # Time of the processor, so that other tests do not count. It has taken 12 s.
    assert sum(after[2:4]) - sum(before[2:4]) < 30
