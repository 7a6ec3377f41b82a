"""The public interface: the API page names all of it, and whatever a signature mentions can be imported."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import taskctx_sql

PAGE = Path(__file__).parents[1] / "docs" / "pages" / "reference" / "api" / "index.md"
NAMESPACES = (
    "prices",
    "schema",
    "maintenance",
    "transfer",
    "reports",
    "health",
    "settings",
    "errors",
    "telemetry",
    "testing",
)


# Methods for the library itself, or of objects that it creates: nobody else calls them.
INTERNAL = {
    "OpenDatabase.__init__",
    "OfOneContext.__init__",
    "Report.__init__",
    "JsonStore.load_now",
    "JsonStore.run_in_thread",
}


def documented() -> dict[str, set[str]]:
    """The names of the API page, by module."""
    names: dict[str, set[str]] = {}
    for module, listed in re.findall(r"^\|[^|`]*\| `([\w.]+)` \| ([^|]*) \|$", PAGE.read_text(), re.M):
        names.setdefault(module, set()).update(re.findall(r"`(\w+)`", listed))
    return names


def public(module: types.ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module.__all__}


def module_of(name: str) -> types.ModuleType:
    return importlib.import_module(f"taskctx_sql.{name}")


def test_the_root_has_what_the_page_lists() -> None:
    assert documented()["taskctx_sql"] == set(taskctx_sql.__all__) - set(NAMESPACES)


@pytest.mark.parametrize("name", [name for name in NAMESPACES if name != "errors"])
def test_a_namespace_has_what_the_page_lists(name: str) -> None:
    assert documented()[f"taskctx_sql.{name}"] == set(module_of(name).__all__)


def test_the_namespaces_can_be_imported_from_the_root() -> None:
    for name in NAMESPACES:
        assert getattr(taskctx_sql, name) is module_of(name)


def callables(value: Any) -> Iterator[Any]:
    """A function, or the public methods of a class of ours, properties included."""
    if inspect.isfunction(value):
        yield value
    elif inspect.isclass(value):
        for kind in value.__mro__:
            if kind.__module__.startswith("taskctx_sql"):
                for name, member in vars(kind).items():
                    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                    if inspect.isfunction(function) and (not name.startswith("_") or name in ("__init__", "__enter__")):
                        yield function


def own_names() -> set[str]:
    """The names of all classes of the package."""
    names = set()
    for found in pkgutil.walk_packages(taskctx_sql.__path__, "taskctx_sql."):
        # Integrations need their frameworks, and no signature outside them mentions one.
        left_out = found.name.endswith(("__main__", ".env")) or ".integrations." in found.name
        if not left_out and "migrations" not in found.name:
            module = importlib.import_module(found.name)
            names |= {
                name
                for name, value in vars(module).items()
                if inspect.isclass(value) and value.__module__ == found.name
            }
    return names


def test_whatever_a_signature_mentions_can_be_imported() -> None:
    everything = {"taskctx_sql": public(taskctx_sql)} | {name: public(module_of(name)) for name in NAMESPACES}
    importable = {name for names in everything.values() for name in names}
    own = own_names()
    assert len(own) > 100
    hidden = {
        f"{function.__qualname__}: {word}"
        for names in everything.values()
        for value in names.values()
        for function in callables(value)
        if function.__qualname__ not in INTERNAL
        for annotation in function.__annotations__.values()
        # SQLAlchemy's names are its own.
        for word in re.findall(r"(?<!\bsa\.)\b[A-Z]\w+", str(annotation))
        if word in own and word not in importable
    }
    assert hidden == set()


def test_the_files_that_the_architecture_names_exist() -> None:
    page = (PAGE.parents[2] / "explanation" / "architecture.md").read_text()
    package = Path(taskctx_sql.__file__).parent
    named = re.findall(r"\b[a-z][\w/]*/[\w/]*\.py\b", page)
    assert len(named) > 15
    assert [name for name in named if not (package / name).exists() and not (package.parent / name).exists()] == []


async def test_a_store_is_asked_without_a_cast(tmp_path: Path) -> None:
    key = taskctx_sql.ContextKey("u1", "c1")
    async with taskctx_sql.open_store(f"sqlite:///{tmp_path}/tasks.db") as store:
        async with taskctx_sql.task_context({"user_id": "u1", "chat_id": "c1"}, store=store) as context:
            context.track_model_usage("m", "p", "chat", input_tokens=3)
        (usage,) = await store.reports.models(user_id="u1")
        (revision,) = await store.revisions(key)
        async with aclosing(store.watch(key)) as updates:
            update = await anext(updates)
        examination = await taskctx_sql.maintenance.examine(store)
    assert (usage.input_tokens, revision.revision, update.seq) == (3, 1, 1)
    assert examination.database_url == store.database_url


async def test_a_store_of_files_says_what_it_cannot_do(tmp_path: Path) -> None:
    async with taskctx_sql.open_store(f"json:///{tmp_path}/tasks") as store:
        with pytest.raises(taskctx_sql.errors.UnsupportedByStoreError, match="use a database"):
            await store.reports.models()
        with pytest.raises(taskctx_sql.errors.UnsupportedByStoreError, match="use a database"):
            store.watch(taskctx_sql.ContextKey("u1", "c1"))
