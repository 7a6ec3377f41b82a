"""Colors: enough contrast everywhere, and the same one for a name on every view."""

from __future__ import annotations

import re

import pytest

from taskctx_sql.pages import colors
from taskctx_sql.pages.render import asset

TEXTS = ("ink", "soft", "accent", "failed", "unfinished", "completed", "cancelled")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_texts_and_shapes_have_the_contrast_that_they_need(is_dark: bool) -> None:
    named = colors.DARK if is_dark else colors.LIGHT
    # WCAG 2.2 AA: 4.5 for texts, 3 for shapes and the edges of fields.
    for text in TEXTS:
        for ground in ("page", "card"):
            assert colors.contrast(named[text], named[ground]) >= 4.5, (text, ground)
    for text in ("ink", "accent"):
        assert colors.contrast(named[text], named["wash"]) >= 4.5
    assert colors.contrast(named["ink"], named["mark"]) >= 4.5
    assert colors.contrast(named["edge"], named["card"]) >= 3
    for color in colors.palette(is_dark=is_dark):
        assert colors.contrast(color, named["card"]) >= 3, color


def test_contrast_is_that_of_wcag() -> None:
    assert colors.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert colors.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_a_name_has_one_color() -> None:
    names = [f"model-{number}" for number in range(500)]
    found = {name: colors.color_class(name) for name in names}
    assert found == {name: colors.color_class(name) for name in reversed(names)}
    assert set(found.values()) == {f"c{number}" for number in range(colors.COLORS)}
    assert colors.color_class("gpt-4o") == "c12"


def test_the_style_sheet_has_no_color_of_its_own() -> None:
    style = asset("style.css")
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", style)) - {"color"}
    assert used <= {*colors.LIGHT, *(f"c{number}" for number in range(colors.COLORS))}
    rules = style.split("\n* {", 1)[1]
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rules)) <= {"#fff"}
    assert "url(" not in style
    assert "@import" not in style
