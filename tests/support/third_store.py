"""The store of the guide "a store of your own", and packages that bring stores, installed as pip installs them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.test_docs import BLOCK, DOCS

GUIDE = DOCS / "guides" / "own-store.md"


def guide_code(language: str, number: int = 0) -> str:
    """A block of the guide, counted from 0."""
    return str([code for kind, code in BLOCK.findall(GUIDE.read_text()) if kind == language][number])


def install(folder: Path, name: str, code: str, scheme: str, value: str, *, pip: bool = True) -> Path:
    """Build a wheel of one module with an entry point for a scheme, and install it into a folder of its own.

    Without pip, which takes most of a second, it is unpacked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    files = {
        f"{name}.py": code,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n",
        f"{name}-1.0.dist-info/entry_points.txt": f"[taskctx_sql.stores]\n{scheme} = {value}\n",
    }
    record = f"{name}-1.0.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(record, "".join(f"{path},,\n" for path in [*files, record]))
    target = folder / "site"
    if not pip:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        return target
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target
