"""README and docs: every Python block runs, every shell command exists, every SQL question is answered."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import task_context
from taskctx_sql.sql import engines

CHECKOUT = Path(__file__).parent.parent
DOCS = CHECKOUT / "docs" / "pages"
README = CHECKOUT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
# Their blocks run in the ordinary run, those of the other pages in the wide one.
FIRST_PAGES = (README, DOCS / "start.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    """Every block of a language, as a case named by its page."""
    found = []
    for page in PAGES:
        codes = [code for kind, code in BLOCK.findall(page.read_text()) if kind == language]
        marks = () if page in FIRST_PAGES or language == "sql" else pytest.mark.wide
        name = page.relative_to(CHECKOUT if page == README else DOCS)
        found += [pytest.param(code, id=f"{name}-{number}", marks=marks) for number, code in enumerate(codes, 1)]
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs(code: str, tmp_path: Path) -> None:
    # Blocks go on where the ones before them ended: README's has made the database that others read.
    first = next(case.values[0] for case in blocks("python") if "tasks.db" in case.values[0])
    for step in [first, code] if "tasks.db" in code and code != first else [code]:
        done = subprocess.run([sys.executable, "-W", "error", "-"], input=step, capture_output=True, text=True)
        if "notes.txt" in step:
            assert (tmp_path / "notes.txt").exists()
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


@pytest.mark.parametrize("code", blocks("sql"))
async def test_a_question_is_answered(code: str, database_url: str, user: str) -> None:
    with pytest.raises(KeyError):
        async with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
            context.track_model_usage("gpt-4", "openai", "chat", input_tokens=3, cost=0.5)
            context.track_file_operation("input.pdf", "read", "user")
            raise KeyError("made for this test")
    engine = create_async_engine(engines.parse_url(database_url))
    async with engine.connect() as connection:
        found = (await connection.execute(sa.text(code.replace("'u1'", f"'{user}'")))).all()
    await engine.dispose()
    assert len(found) >= 1


@pytest.mark.parametrize("code", blocks("sh"))
def test_a_command_exists(code: str) -> None:
    lines = [line.split("#")[0] for line in code.splitlines()]
    commands = [line for line in lines if re.match(r"taskctx |python -m tests\.", line)]
    for command in commands:
        # The command itself and not what it is given.
        name, *words = command.split()
        words = ["-m", "taskctx_sql", words[0]] if name == "taskctx" else words[: 3 if "explore" in words else 2]
        done = subprocess.run(
            [sys.executable, *words, "--help"], capture_output=True, text=True, check=True, cwd=CHECKOUT
        )
        for option in re.findall(r"--[\w-]+", command):
            assert option in done.stdout
    assert commands or "alembic" in code or "venv" in code


def test_the_tables_of_the_docs_are_those_of_the_schema() -> None:
    from taskctx_sql.sql.schema import tables

    text = (DOCS / "reference" / "schema.md").read_text()
    for name, table in tables.metadata.tables.items():
        section = text.split(f"**{name}**")[1].split("**taskctx_")[0].split("## Questions")[0]
        documented = re.findall(
            r"`(\w+)`", "\n".join(line.split("|")[1] for line in section.splitlines() if "|" in line)
        )
        missing = set(table.columns.keys()) - set(documented)
        assert not missing - {"context_id"}, f"{name}: {missing}"


def test_the_errors_of_the_docs_are_those_of_the_library() -> None:
    from taskctx_sql import errors

    text = (DOCS / "reference" / "errors.md").read_text()
    public = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and "__init__" in vars(kind)}
    assert public - set(re.findall(r"`(\w+Error)`", text)) == set()
