"""Ids are new, whatever a program does to Python's own source of random numbers, and in each forked process."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid

from taskctx_sql.random_ids import new_token, new_uuid

FORKED = """
import os
from taskctx_sql.random_ids import new_uuid
new_uuid()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, new_uuid().encode())
    os._exit(0)
assert os.read(read, 36).decode() != new_uuid()
"""


def test_ids_are_uuids_and_tokens_of_a_length() -> None:
    made = {new_uuid() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 4 for one in made)
    assert all(uuid.UUID(one).variant == uuid.RFC_4122 for one in made)
    assert {len(new_token(length)) == length for length in range(1, 40)} == {True}


def test_a_program_that_seeds_random_gets_other_ids() -> None:
    state = random.getstate()
    try:
        random.seed(1)
        first = new_uuid()
        random.seed(1)
        assert new_uuid() != first
    finally:
        random.setstate(state)


def test_a_forked_process_makes_other_ids() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=120)
