"""Reading a file entry by entry: whole entries are returned, and damage is reported by its bytes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql.json_files import Entry, parse
from taskctx_sql.json_files.history_format import entry_text, whole_text
from taskctx_sql.json_files.recovery import CHUNK, read_entries
from taskctx_sql.model import ContextUpdate, Damage
from tests.json_files.test_fixtures import EXPECTED, FOLDER, READABLE

CHUNKS = (1, 7, 64, CHUNK)


def entries(*datas: Any) -> list[str]:
    return [entry_text(ContextUpdate(1.5, "message", data, {"k": data}), "", strict=True) for data in datas]


def updates_of(*datas: Any) -> list[ContextUpdate]:
    return [ContextUpdate(1.5, "message", data, {}) for data in datas]


def read_entries_of(file: Path, content: bytes, chunk: int) -> Iterator[Entry | Damage]:
    file.write_bytes(content)
    return read_entries(file, chunk=chunk)


def parts(file: Path, text: str | bytes, chunk: int = CHUNK) -> tuple[list[Any], list[Damage]]:
    """The data of the entries, and what is damaged."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = list(read_entries(file, chunk=chunk))
    damage = [part for part in found if isinstance(part, Damage)]
    return [part.update.data for part in found if isinstance(part, Entry)], damage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "context_history_c.json"


@pytest.mark.parametrize("chunk", [100, CHUNK])
@pytest.mark.parametrize("name", READABLE)
def test_a_whole_file_is_read_as_the_store_reads_it(name: str, chunk: int) -> None:
    found = list(read_entries(FOLDER / name, chunk=chunk))
    updates = [part.update for part in found if isinstance(part, Entry)]
    assert len(updates) == len(found) == int(EXPECTED[name])
    expected = parse((FOLDER / name).read_text())
    assert [entry_text(update, "", strict=True) for update in updates] == [
        entry_text(update, "", strict=True) for update in expected
    ]


@pytest.mark.parametrize("name", READABLE)
def test_the_bytes_of_an_entry_are_its_own(name: str) -> None:
    whole = (FOLDER / name).read_bytes()
    for part in read_entries(FOLDER / name, chunk=50_000):
        assert isinstance(part, Entry)
        assert json.loads(whole[part.start : part.end])["update_type"] == part.update.update_type


def test_from_the_file_that_the_original_cut_short_all_whole_entries_come() -> None:
    path = FOLDER / "context_history_cut_short.json"
    whole = path.read_text()
    *found, damage = read_entries(path)
    assert isinstance(damage, Damage)
    assert len(found) == whole.count("\n  }") == 15
    assert parse(whole[: whole.rindex("\n  },")] + "\n  }\n]") == [
        part.update for part in found if isinstance(part, Entry)
    ]
    assert (damage.start, damage.end) == (whole.rindex("\n  {") + 3, len(whole))
    assert whole[damage.start :].startswith("{")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_file_that_an_editor_saved_in_another_encoding_comes_whole(file: Path, encoding: str, mark: str) -> None:
    texts = [
        "  " + json.dumps(update.to_dict(), ensure_ascii=False) for update in updates_of("é🙂", ["[", {"a": 1}], 3)
    ]
    whole = (mark + whole_text(texts)).encode(encoding)
    for chunk in (1, 7, CHUNK):
        found = list(read_entries_of(file, whole, chunk))
        assert [part.update.data for part in found if isinstance(part, Entry)] == ["é🙂", ["[", {"a": 1}], 3]
        for part in found:
            assert isinstance(part, Entry)
            assert json.loads(whole[part.start : part.end].decode(encoding))["data"] == part.update.data


@pytest.mark.parametrize(("encoding", "bad"), [("utf-16-le", b"\x00\xdc\x00\xdc"), ("utf-32-be", b"\xff\xff\xff\xff")])
def test_damage_in_a_file_of_another_encoding_is_reported_by_its_bytes(file: Path, encoding: str, bad: bytes) -> None:
    whole = whole_text(entries("a", "b", "c")).encode(encoding)
    cut = whole.rindex('"c"'.encode(encoding)) + 1
    found, damage = parts(file, whole[:cut])
    assert found == ["a", "b"]
    assert [part.end for part in damage] == [cut]
    middle = whole.index('b"'.encode(encoding))
    found, (part,) = parts(file, whole[:middle] + bad + whole[middle:])
    assert found == ["a", "c"]
    assert part.reason == f"it has bytes that are not {encoding[:6].upper()}"
    assert part.start < middle < part.end


@pytest.mark.parametrize("chunk", CHUNKS)
def test_wherever_a_file_is_cut_all_entries_before_it_come(file: Path, chunk: int) -> None:
    texts = entries("é", [1, {"a": "\n  {"}], ']}\\"', 3)
    whole = whole_text(texts).encode()
    for cut in range(len(whole)):
        found, damage = parts(file, whole[:cut], chunk)
        ends = [whole_text(texts[: count + 1]).encode()[:-2] for count in range(4)]
        assert found == ["é", [1, {"a": "\n  {"}], ']}\\"', 3][: sum(len(end) <= cut for end in ends)]
        assert len(damage) == 1
        assert damage[0].end == cut
    assert parts(file, whole, chunk)[1] == []


@pytest.mark.parametrize("chunk", CHUNKS)
def test_after_damage_in_the_middle_the_next_entries_come(file: Path, chunk: int) -> None:
    texts = entries("a", "b", "c", "d")
    whole = whole_text(texts)
    broken = whole.replace('"data": "b"', '"data": "b')
    start = len("[\n" + texts[0] + ",\n  ")
    found, (damage,) = parts(file, broken, chunk)
    assert found == ["a", "c", "d"]
    assert damage.start == start
    assert broken[damage.end :].startswith(texts[2][2:])
    assert "not a whole entry" in damage.reason


@pytest.mark.parametrize("chunk", CHUNKS)
def test_bytes_that_are_no_text_cost_their_entry_alone(file: Path, chunk: int) -> None:
    text = json.dumps(
        [{"timestamp": 1, "update_type": "x", "data": data} for data in ("é", "BAD", "会")], ensure_ascii=False
    )
    whole = text.encode().replace(b"BAD", b"\xff\xfe")
    found, (damage,) = parts(file, whole, chunk)
    assert found == ["é", "会"]
    assert damage.reason == "it has bytes that are not UTF-8"
    assert whole[damage.start : damage.end].endswith(b'"\xff\xfe"}')


@pytest.mark.parametrize(
    ("text", "count", "reason", "bounds"),
    [
        ("", 0, "it is empty", (0, 0)),
        (" \n", 0, "it is empty", (2, 2)),
        ('{"timestamp": 1}', 0, "it is not a list of updates", (0, 16)),
        ("[", 0, "the file ends here, and the list does not", (1, 1)),
        ("[1]", 0, "the entry is a int", (1, 2)),
        ('[{"timestamp": 1, "data": 1}]', 0, "the entry has no update_type", (1, 28)),
        ('[{"timestamp": 1, "update_type": "x", "data": 1}]]', 1, "it comes after the end of the list", (49, 50)),
        ('[{"timestamp": 1, "update_type": "x", "data": 1}', 1, "the file ends here, and the list does not", (48, 48)),
        ('[{"timestamp": 1, "update_type": "x", "data": 1},', 1, "the file ends here, and the list does not", (49, 49)),
        ('[{"timestamp": 1, "update_type": "x", "data": 1} {"timestamp": 1, "update_type": "x", "data": 2}]', 2,
         "a comma is missing", (49, 49)),
        ("[" + "[" * 100_000, 0, "it is nested too deep", (1, 100_001)),
    ],
)  # fmt: skip
def test_damage_is_reported_with_its_bytes(
    file: Path, text: str, count: int, reason: str, bounds: tuple[int, int]
) -> None:
    found, (damage,) = parts(file, text)
    assert len(found) == count
    assert damage.reason == reason
    assert (damage.start, damage.end) == bounds


def test_our_own_forms_are_read_back(file: Path) -> None:
    values = [(1, 2), {1, 2}, {"__tuple__": "not ours"}, float("inf"), 10**400]
    file.write_text(whole_text(entries(*values)))
    assert [part.update.data for part in read_entries(file) if isinstance(part, Entry)] == values


def test_an_empty_list_and_a_mark_of_the_byte_order_are_fine(file: Path) -> None:
    assert parts(file, "[]") == ([], [])
    assert parts(file, "\ufeff" + whole_text(entries("a"))) == (["a"], [])


def test_a_long_file_takes_little_memory(file: Path) -> None:
    text = "x" * 1000
    file.write_text(whole_text(entries(*(f"{text}{number}" for number in range(5_000)))))
    assert file.stat().st_size > 10_000_000
    tracemalloc.start()
    count = sum(1 for _ in read_entries(file, chunk=100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert peak < 1_500_000
