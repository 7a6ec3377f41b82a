"""The guide's pipeline over a folder: killed, started again, and by two programs at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from taskctx_sql import ContextKey, open_store
from tests.test_docs import BLOCK, DOCS

DOCUMENTS = {f"{number:02}.txt": f"document {number}" for number in range(12)}
LAST = "document 3"

# The guide's `night`, with a model that writes down what it is asked. Its arguments are the document that it dies of,
# how many programs it waits for, and how many seconds have passed.
NIGHT = """
import os, signal, sys, types

dies_of, programs, passed = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
answer = ask_model
time = types.SimpleNamespace(time=lambda now=time.time: now() + passed)


async def ask_model(text):
    with open("asked.log", "a") as log:
        log.write(text + "\\n")
    if text == dies_of:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.02)
    return await answer(text)


async def together():
    Path(f"{os.getpid()}.ready").touch()
    while len(list(Path().glob("*.ready"))) < programs:
        await asyncio.sleep(0.01)
    await night()


asyncio.run(together())
"""


def program(database_url: str) -> str:
    """The guide's program without what it does at the end, on a database."""
    code: str = dict(BLOCK.findall((DOCS / "guides" / "pipeline.md").read_text()))["python"]
    functions, found, _ = code.partition("\nFOLDER.mkdir")
    assert found
    assert functions.count('"sqlite:///pipeline.db"') == 2
    return functions.replace('"sqlite:///pipeline.db"', repr(database_url)) + NIGHT


async def test_each_document_is_done_once(database_url: str, user: str, tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    code = re.sub('"pipeline"', repr(user), program(database_url))

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", code, *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    killed = start(LAST, "1", "0")
    assert (killed.communicate()[1], killed.returncode) == ("", -9)
    # After the claim of the one that was killed.
    later = [start("", "3", "600") for _ in range(2)]
    assert [(one.communicate()[1], one.returncode) for one in later] == [("", 0)] * 2

    asked = Counter((tmp_path / "asked.log").read_text().splitlines())
    assert asked == {text: 2 if text == LAST else 1 for text in DOCUMENTS.values()}
    async with open_store(database_url) as store:
        updates = [row.update async for row in store.updates(ContextKey(user, "inbox"))]
        done = sorted(update.data["file"] for update in updates if update.update_type == "result")
        assert done == sorted(DOCUMENTS)
        assert [error.message[:20] for error in await store.reports.errors(user_id=user)] == ["picture.png: 'utf-8'"]
        outcomes = Counter(run.outcome for run in await store.reports.runs(user_id=user))
        assert outcomes == {"unfinished": 1, "completed": 2}
        assert (await store.reports.models(user_id=user).totals())["calls"] == len(DOCUMENTS)
