"""The shim that is preloaded into writers: compiled when it is needed, and its record read."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_HEAD = struct.Struct("<c3xIqq")


@dataclass(frozen=True)
class Step:
    """What was done to a file, or to the folder, whose name is empty.

    It is a (W)rite, (T)runcate, (U)nlink, or an fsync that (B)egan or ended as (S), numbered by ``offset``.
    """

    what: str
    name: str
    offset: int
    data: bytes


def environment(disk: Path, library: Path, *, record: Path | None = None, breaks: str = "") -> dict[str, str]:
    """Return the variables for a process whose work on the files in ``disk`` is recorded, or broken.

    Raises:
        RuntimeError: There is nothing here that could compile or preload it.
    """
    if sys.platform != "linux":
        raise RuntimeError("this test preloads a library, which it can on Linux only")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError(f"this test needs a C compiler for {SOURCE.name}: install gcc or clang")
    if not library.exists():
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    variables = {"LD_PRELOAD": str(library), "TASKCTX_CHAOS_FOLDER": str(disk.resolve())}
    if record is not None:
        variables["TASKCTX_CHAOS_RECORD"] = str(record)
    if breaks in ("no-fsync", "no-lock"):
        variables[f"TASKCTX_CHAOS_{breaks.upper().replace('-', '_')}"] = "1"
    return variables


def locks_broken(folder: Path, breaks: str) -> dict[str, str]:
    """Return the variables for a process that is to work without locks, if that is what is to be broken."""
    return environment(folder, folder / "shim.so", breaks=breaks) if breaks == "no-lock" else {}


def read_record(record: Path) -> Iterator[Step]:
    """Return what was done, in order."""
    with record.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            what, name_length, offset, length = _HEAD.unpack(head)
            name = file.read(name_length).decode()
            yield Step(what.decode(), name, offset, file.read(length))
