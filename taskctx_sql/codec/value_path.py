"""The position of a value within another one, for errors and warnings."""

from __future__ import annotations

from typing import Any, Final

MAX_SHOWN: Final = 300

# The path of the container, and the step from there. Formatted only when it is needed.
ValuePath = tuple[Any, str]


def path_text(path: ValuePath) -> str:
    """Return a path as text, such as ``data['files'][0]``, cut if it is long."""
    steps = []
    rest: Any = path
    while rest is not None:
        rest, step = rest
        steps.append(step)
    text = "".join(reversed(steps))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
