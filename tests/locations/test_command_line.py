"""What is typed on the command line for a store, and characters of an address that nobody sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskctx_sql import open_store, schema, settings
from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.locations import command_line_address, file_address, json_address, json_folder
from taskctx_sql.sql import engines


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("nightly.db", "sqlite:///nightly.db"), ("./x/nightly.db", "sqlite:///x/nightly.db"),
        ("/abs/nightly.sqlite3", "sqlite:////abs/nightly.sqlite3"), ("my tasks.DB", "sqlite:///my tasks.DB"),
        ("50%?.db", "sqlite:///50%25%3F.db"), ("C:\\x.db", "sqlite:///C:%5Cx.db"), ("C:/x.db", "sqlite:///C:/x.db"),
        ("~/x.db", f"sqlite:///{Path.home()}/x.db"), ("new/", "json:///new"),
        *((a, a) for a in ("sqlite:///x.db", "postgres://me@h/d", "json:///x", "postgresql+psycopg://h", "mysql://h/d")),
        *((a, a) for a in ("sqlite:x.db", "me:pw@host/x.db", "host=h password=x.db")),
    ],
)  # fmt: skip
def test_a_path_is_an_address_and_an_address_stays(typed: str, address: str) -> None:
    assert command_line_address(typed) == address


def test_what_exists_is_a_file_or_a_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "nightly").touch()
    (tmp_path / "tasks.db").mkdir()
    assert command_line_address("nightly") == "sqlite:///nightly"
    assert command_line_address("./tasks.db") == "json:///tasks.db"
    assert command_line_address(".") == "json:///."
    assert engines.parse_url(command_line_address(str(tmp_path / "nightly"))).database == f"{tmp_path}/nightly"


@pytest.mark.parametrize(
    "typed", ["nightly", "lsit", "", "x.txt", "nobody:~x", "~nobody-here/x.db", "x" * 300, "a" * 5000]
)
def test_a_word_that_is_neither_is_refused(typed: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=r"neither an address nor an|home folder|cannot be a path"):
        command_line_address(typed)


INVISIBLE = {
    "\r": r"U\+000D \(CARRIAGE RETURN\)", "\n": r"U\+000A \(LINE FEED\)", "\t": r"U\+0009 \(TAB\)",
    " ": r"U\+0020 \(SPACE\)", "\0": r"U\+0000 \(NUL\)", "\x7f": r"U\+007F \(CONTROL",
    "\xa0": r"U\+00A0 \(NO-BREAK SPACE\)", "\xad": "SOFT HYPHEN", "\u200b": "ZERO WIDTH SPACE",
    "\u200e": "LEFT-TO-RIGHT MARK", "\u2028": "LINE SEPARATOR", "\u202e": "RIGHT-TO-LEFT OVERRIDE",
    "\u2060": "WORD JOINER", "\u2800": "BRAILLE PATTERN BLANK", "\u3000": "IDEOGRAPHIC SPACE",
    "\u3164": "HANGUL FILLER", "\ufeff": r"U\+FEFF \(ZERO WIDTH NO-BREAK SPACE\)",
}  # fmt: skip


@pytest.mark.parametrize("character", INVISIBLE)
async def test_an_invisible_character_of_an_address_is_refused_by_its_name(character: str) -> None:
    for address in ("sqlite:///x.db", "postgresql://me:0penSesame@localhost:1/d?sslmode=require", "json:///xy"):
        places = {f"{character}{address}": "begins with", f"{address}{character}": "ends with"}
        if character != " ":
            places[address.replace("://", f":{character}//")] = "contains"
            places[address.replace("x", f"x{character}").replace("me", f"me{character}")] = "contains"
        for wrong, place in places.items():
            for use in (open_store, schema.upgrade, schema.current):
                if use is not open_store and "json" in wrong:
                    continue
                with pytest.raises(InvalidDatabaseUrlError, match=f"it {place} the .*{INVISIBLE[character]}") as caught:
                    await use(wrong)
                assert "0penSesame" not in str(caught.value)
            with pytest.raises(InvalidDatabaseUrlError, match=INVISIBLE[character]):
                command_line_address(wrong)
    assert not list(Path().iterdir())


def test_a_space_within_an_address_is_visible() -> None:
    assert engines.parse_url("sqlite:///my tasks.db").database == "my tasks.db"
    assert json_folder("json:///my tasks") == Path("my tasks")


@pytest.mark.parametrize("character", ["\r", "\xa0", "\u200d", " ", "%", "?", "\udcff", "ü"])
async def test_a_name_with_such_a_character_has_an_address_all_the_same(character: str, tmp_path: Path) -> None:
    for name in (f"{character}x", f"x{character}", f"x{character}x"):
        folder = tmp_path / "folders" / name
        assert json_folder(json_address(folder)) == json_folder(file_address("json", folder)) == folder
        if character != "\udcff":
            async with open_store(file_address("sqlite", tmp_path / name)):
                assert (tmp_path / name).is_file()


def test_the_environment_says_which_character_it_is() -> None:
    found = settings.database_url({"TASKCTX_DATABASE_URL": "sqlite:///x.db\r"})
    with pytest.raises(InvalidDatabaseUrlError, match="CARRIAGE RETURN"):
        engines.parse_url(found or "")
