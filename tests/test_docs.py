"""README and docs: every Python block runs, every shell command exists, every SQL question is answered.

Blocks marked ``py`` are parts of programs, which other tests have; here, what they import must exist.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import taskctx_sql
from taskctx_sql import ContextKey, open_store, settings, task_context
from taskctx_sql.settings import Settings
from taskctx_sql.sql import engines
from tests.support.command_lines import in_backticks, refused
from tests.support.programs import Programs
from tests.test_api import NAMESPACES

CHECKOUT = Path(__file__).parent.parent
DOCS = CHECKOUT / "docs" / "pages"
README = CHECKOUT / "README.md"
CONTRIBUTING = CHECKOUT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted(DOCS.rglob("*.md"))]
# Their blocks run in the ordinary run, those of the other pages in the wide one.
FIRST_PAGES = (README, DOCS / "start.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    """Every block of a language, as a case named by its page."""
    found = []
    for page in PAGES:
        if page.parent.name == "integrations" and language in ("python", "py"):
            continue  # tests/integrations/test_pages.py has them: they need their frameworks
        codes = [code for kind, code in BLOCK.findall(page.read_text()) if kind == language]
        marks = () if page in FIRST_PAGES or language in ("py", "sql") else pytest.mark.wide
        name = page.relative_to(DOCS if page.is_relative_to(DOCS) else CHECKOUT)
        found += [pytest.param(code, id=f"{name}-{number}", marks=marks) for number, code in enumerate(codes, 1)]
    return found


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as README's first block leaves it, with the database that other blocks read."""
    folder = tmp_path_factory.mktemp("begun")
    code = next(case.values[0] for case in blocks("python") if "tasks.db" in case.values[0])
    command = [sys.executable, "-W", "error", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs(code: str, tmp_path: Path, begun: Path, programs: Programs) -> None:
    if "tasks.db" in code:
        shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    done = programs.run(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "notes.txt").exists() or "notes.txt" not in code


@pytest.mark.parametrize("code", blocks("py"))
def test_a_block_that_is_part_of_a_program_imports_what_exists(code: str) -> None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for node in ast.walk(compile(code, "page", "exec", flags)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taskctx_sql"):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "schema":
            assert hasattr(taskctx_sql.schema, node.attr)


def test_the_first_page_shows_what_its_commands_print() -> None:
    found = dict(BLOCK.findall((DOCS / "start.md").read_text()))
    subprocess.run([sys.executable, "-"], input=found["python"], text=True, check=True, capture_output=True)
    command = re.findall(r"^taskctx (.*?) +#", found["sh"], re.MULTILINE)[-1]
    done = subprocess.run([sys.executable, "-m", "taskctx_sql", *command.split()], capture_output=True, text=True)
    printed = [re.sub(r"^\d{4}-\d\d-\d\d", "2026-11-30", line).rstrip() for line in done.stdout.splitlines()]
    assert printed == found["text"].splitlines()


@pytest.mark.parametrize("code", blocks("sql"))
async def test_a_question_is_answered(code: str, database_url: str, user: str) -> None:
    with pytest.raises(KeyError):
        async with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
            context.track_model_usage("gpt-4", "openai", "chat", input_tokens=3, cost=0.5)
            context.track_file_operation("input.pdf", "read", "user")
            context.add_context_update("tool_call", {}, metadata={"group": "1", "name": "search"})
            raise KeyError("made for this test")
    async with open_store(database_url) as store:
        await store.label(ContextKey(user, "c"), labels={"framework": "langgraph"})
    engine = create_async_engine(engines.parse_url(database_url))
    async with engine.connect() as connection:
        found = (await connection.execute(sa.text(code.replace("'u1'", f"'{user}'")))).all()
    await engine.dispose()
    assert len(found) >= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    text = page.read_text()
    shown = [line for kind, code in BLOCK.findall(text) if kind == "sh" for line in code.splitlines()]
    whole = [found[0] for line in shown if (found := re.search(r"taskctx .*", line.split(" #")[0]))]
    assert [why for line in whole if (why := refused(line, whole=True))] == []
    assert [why for line in in_backticks(text) if (why := refused(line, whole=False))] == []


@pytest.mark.wide
def test_every_command_of_the_tests_exists(programs: Programs) -> None:
    commands: dict[tuple[str, ...], set[str]] = {}
    for case in blocks("sh"):
        for line in case.values[0].splitlines():
            if line.startswith("python -m tests."):
                command = line.split("#")[0]
                words = command.split()[2 : 4 if "explore" in command else 3]
                commands.setdefault(tuple(words), set()).update(re.findall(r"--[\w-]+", command))
    assert commands
    for words, options in commands.items():
        code = "import runpy, sys; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
        done = programs.run(code, *words, "--help", folder=CHECKOUT)
        assert done.returncode == 0, done.stderr
        assert [option for option in options if option not in done.stdout] == [], words


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


def test_every_page_is_once_in_the_navigation() -> None:
    navigation = (CHECKOUT / "docs" / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    listed = re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


# Each name of the reference is described where a directive names it, or its module and a list of members.
DIRECTIVE = re.compile(r"^::: (taskctx_sql[\w.]*)\n((?:    .*\n)*)", re.MULTILINE)


def public_names() -> set[str]:
    modules = [taskctx_sql, *(importlib.import_module(f"taskctx_sql.{name}") for name in NAMESPACES)]
    public = {f"{module.__name__}.{name}" for module in modules for name in module.__all__}
    # In a text of their own.
    elsewhere = {f"taskctx_sql.schema.{name}" for name in ("metadata", "tables", "views")} | {"taskctx_sql.__version__"}
    return public - elsewhere - {f"taskctx_sql.{name}" for name in NAMESPACES}


def without_module(name: str) -> str:
    """Return a function's public name; in a module of the same name it is described by both."""
    return re.sub(r"^(taskctx_sql\.[a-z]+)\.[a-z_]+\.([a-z_]+)$", r"\1.\2", name)


def test_every_public_name_has_a_place_in_the_reference() -> None:
    described: set[str] = set()
    for page in (DOCS / "reference").rglob("*.md"):
        for path, options in DIRECTIVE.findall(page.read_text()):
            members = re.search(r"members: \[(.*)\]", options)
            if path.split(".")[-1] in NAMESPACES:
                names = members[1].split(", ") if members else importlib.import_module(path).__all__
                described |= {f"{path}.{name}" for name in names}
            else:
                described.add(without_module(path))
    assert sorted(public_names() - described) == ["taskctx_sql.Retention", "taskctx_sql.TaskContextError"]


@pytest.mark.wide
def test_the_site_builds_and_describes_every_public_name(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "-f",
        "docs/mkdocs.yml",
        "-d",
        str(tmp_path),
    ]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    # Four lines of text, and then a compressed line for each name.
    inventory = zlib.decompress((tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    described = {line.split()[0] for line in inventory.splitlines()}
    described |= {without_module(name) for name in described}
    assert sorted(public_names() - described) == []


def test_the_settings_of_the_docs_are_those_of_the_library() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (DOCS / "reference" / "settings.md").read_text(), re.MULTILINE)
    code = Path(settings.__file__).read_text()
    assert {name for name, _ in rows} == set(re.findall(r"(?:AIECS|TASKCTX)_[A-Z_]*[A-Z]", code))
    found = Settings.from_environment({})
    for name, default in rows:
        value = getattr(found, name.split("_", 1)[1].lower())
        assert default == (f"`{str(value).lower() if value is True else value}`" if value is not None else default)
        assert value is not None or default.startswith("none")


@pytest.mark.parametrize("page", [README, CONTRIBUTING, CHECKOUT / "SECURITY.md"], ids=lambda page: page.name)
def test_the_links_lead_to_files_of_the_checkout(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", page.read_text())
    assert len(links) > 5 or page != README
    for path, anchor in links:
        if path.startswith("https://"):
            continue
        assert (CHECKOUT / path).exists(), path
        headings = re.findall(r"^#+ (.*)$", (CHECKOUT / path).read_text(), re.MULTILINE) if anchor else []
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in slugs, f"{path}#{anchor}"


def test_the_errors_of_the_docs_are_those_of_the_library() -> None:
    from taskctx_sql import errors

    text = (DOCS / "reference" / "errors.md").read_text()
    public = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and "__init__" in vars(kind)}
    assert public - set(re.findall(r"`(\w+Error)`", text)) == set()
