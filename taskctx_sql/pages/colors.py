"""Colors: those of the page, and one for each name, which is the same on every view.

All of them are computed from a hue and the contrast that they need, so that texts have 4.5:1 (WCAG AA) and shapes 3:1
in the light and in the dark.
"""

from __future__ import annotations

import colorsys
from hashlib import blake2b
from typing import Final

# The colors of the page, by their names in the style sheet. Texts stand on "page" and on "card".
LIGHT: Final = {
    "page": "#f5f6f8",
    "card": "#ffffff",
    "ink": "#1a2230",
    "soft": "#5a6475",
    "rule": "#e2e6ec",
    "edge": "#7d8797",
    "accent": "#2f5bd7",
    "wash": "#eaf0fe",
    "mark": "#fff1b8",
    "failed": "#c3281e",
    "unfinished": "#8f5a00",
    "completed": "#1b7a4b",
    "cancelled": "#5a6475",
}
DARK: Final = {
    "page": "#0f141b",
    "card": "#181f29",
    "ink": "#e7ebf1",
    "soft": "#9ba7b8",
    "rule": "#2a3341",
    "edge": "#6f7b8d",
    "accent": "#8cb0ff",
    "wash": "#1d2a44",
    "mark": "#5c4a08",
    "failed": "#ff8a80",
    "unfinished": "#f0b34c",
    "completed": "#5fcf98",
    "cancelled": "#9ba7b8",
}
# The hues of names; around 0 there is none, as red stands for what failed.
HUES: Final = (28, 46, 80, 130, 158, 178, 196, 212, 232, 258, 284, 318)
# Each hue in two tones: their contrasts with "card" in the light and in the dark.
TONES: Final = ((5.2, 5.2), (3.2, 9.0))
COLORS: Final = len(HUES) * len(TONES)


def color_class(name: str) -> str:
    """Return the class of a name's color: the same for one name everywhere, whatever other names there are."""
    number = int.from_bytes(blake2b(name.encode("utf-8", "replace"), digest_size=4).digest(), "big")
    return f"c{number % COLORS}"


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors, as WCAG 2 defines it."""
    lower, higher = sorted((_luminance(one), _luminance(other)))
    return (higher + 0.05) / (lower + 0.05)


def palette(*, is_dark: bool) -> list[str]:
    """Return the colors of names."""
    card = (DARK if is_dark else LIGHT)["card"]
    return [_with_contrast(hue, tone[is_dark], card, is_dark=is_dark) for tone in TONES for hue in HUES]


def variables() -> str:
    """Return the part of the style sheet that defines the colors."""
    return (
        f":root {{ {_declared(LIGHT, palette(is_dark=False))} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_declared(DARK, palette(is_dark=True))} }} }}\n"
        + "".join(f".c{number} {{ --color: var(--c{number}) }}\n" for number in range(COLORS))
    )


def _declared(named: dict[str, str], numbered: list[str]) -> str:
    every = {**named, **{f"c{number}": color for number, color in enumerate(numbered)}}
    return " ".join(f"--{name}: {color};" for name, color in every.items())


def _with_contrast(hue: int, wanted: float, card: str, *, is_dark: bool) -> str:
    """Return the color of a hue that has a contrast with the card, found by halving the range of lightness."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        # Towards the card's lightness the contrast falls.
        is_enough = contrast(_hex(hue, middle), card) >= wanted
        if is_enough == is_dark:
            high = middle
        else:
            low = middle
    return _hex(hue, high if is_dark else low)


def _hex(hue: int, lightness: float) -> str:
    parts = colorsys.hls_to_rgb(hue / 360, lightness, 0.62)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _luminance(color: str) -> float:
    parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
