"""Files that one reads with pleasure: no module is long, neither of the package nor of its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("folder", "most"),
    [("taskctx_sql", 350), ("taskctx_sql/integrations", 300), ("tests", 350)],
)
def test_no_module_is_long(folder: str, most: int) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sorted((CHECKOUT / folder).rglob("*.py"))}
    assert len(lengths) > 10
    assert {str(path.relative_to(CHECKOUT)): length for path, length in lengths.items() if length > most} == {}
