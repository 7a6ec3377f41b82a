"""Ids that are new, for runs and names.

They do not come from `os.urandom`: it gives up the interpreter's lock, and a save that has to wait for it again while
another thread is busy takes milliseconds. Nor from the functions of `random`, which a program may seed.
"""

from __future__ import annotations

import os
from random import Random
from typing import Final

_source: Final = Random()  # ids are no secrets


def new_uuid() -> str:
    """Return the text of a random UUID, version 4."""
    number = _source.getrandbits(128)
    digits = f"{number:032x}"
    variant = "89ab"[(number >> 62) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def new_token(length: int) -> str:
    """Return so many random hexadecimal digits."""
    return f"{_source.getrandbits(4 * length):0{length}x}"


# A forked child has the parent's state, and would make the same ids.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_source.seed)
