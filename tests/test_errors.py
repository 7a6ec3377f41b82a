"""Every error: a subclass of the base, facts as attributes, a message with the remedy; a new one tests itself."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from taskctx_sql import ContextKey, errors
from taskctx_sql.errors import TaskContextError

SAMPLES: dict[str, Any] = {
    "field": "chat_id",
    "value": "x" * 100,
    "expected": "a dict",
    "reason": "a reason",
    "variable": "AIECS_LOG_LEVEL",
    "allowed": "DEBUG or INFO",
    "argument": "after",
    "feature": "revisions",
    "database_url": "sqlite:///x.db",
    "schema": "tasks",
    "database": "Postgres",
    "package": "jinja2",
    "extra": "postgres",
    "place": "data['a']",
    "doing": "save",
    "cause": OSError("cause"),
    "waited": 1.5,
    "key": ContextKey("u", "c"),
    "where": "update seq 3",
    "path": "/x.json",
    "moved_to": "/x.json.unreadable-1",
    "needed": "0003",
    "known": "0003",
    "tables": ["taskctx_runs"],
    "what": "files tracked",
    "size": 11,
    "limit": 10,
    "remedy": "track fewer",
    "asked": 7,
    "newest": 5,
    "pruned_until": 2,
    "revision": 3,
    "name": "load",
    "scheme": "myscheme",
}


def subclasses(of: type[Any]) -> Iterator[type[Any]]:
    for kind in of.__subclasses__():
        yield kind
        yield from subclasses(kind)


PUBLIC = [kind for kind in subclasses(TaskContextError) if "__init__" in vars(kind)]


def sample(kind: type) -> TaskContextError:
    parameters = inspect.signature(kind).parameters.values()
    values = {p.name: SAMPLES[p.name] for p in parameters if p.name in SAMPLES}
    if kind is errors.StaleContextError:
        values |= {"expected": 3, "found": 4}
    elif "found" in inspect.signature(kind).parameters:
        values["found"] = "0001"
    error = kind(**values)
    assert isinstance(error, TaskContextError)
    return error


def test_there_are_errors_to_test() -> None:
    assert len(PUBLIC) > 15


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_an_error_names_its_facts_in_one_line_and_keeps_them(kind: type) -> None:
    error = sample(kind)
    text = str(error)
    assert 20 < len(text) < 600
    assert "\n" not in text
    for name in inspect.signature(kind).parameters:
        if name != "value":
            assert hasattr(error, name), name
    assert kind.__doc__


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_an_error_is_what_it_says(kind: type) -> None:
    assert kind.__name__.endswith("Error")
    assert issubclass(kind, TaskContextError)


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_an_error_crosses_processes(kind: type) -> None:
    error = sample(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)


def test_each_error_is_raised_by_the_library() -> None:
    """The tests that provoke them are elsewhere; here, that none is left over."""
    from pathlib import Path

    package = Path(errors.__file__).parent
    code = "\n".join(p.read_text() for p in package.rglob("*.py") if p.name != "errors.py")
    assert [kind.__name__ for kind in PUBLIC if f"{kind.__name__}(" not in code] == []
