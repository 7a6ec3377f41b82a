"""What the tests of saving to SQLite listen to."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest

from tests.support.sqlite_wire import Wire, commits


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    found = Wire()
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            fault = found.faults.pop(0) if commits(statement) and found.faults else None
            if fault == "before":
                raise sqlite3.OperationalError("disk I/O error")
            if fault == "corrupt":
                error = sqlite3.DatabaseError("database disk image is malformed")
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            if statement.startswith(("BEGIN IMMEDIATE", "INSERT INTO taskctx_appends")):
                found.before_begin()
            cursor = super().execute(statement, *parameters)
            if commits(statement):
                found.after_commit()
            if fault == "after":
                raise sqlite3.OperationalError("disk I/O error")
            return cursor

    def connect_on_the_writer(*arguments: Any, **options: Any) -> sqlite3.Connection:
        if threading.current_thread().name != "taskctx-writer":
            plain: sqlite3.Connection = connect(*arguments, **options)
            return plain
        connection: sqlite3.Connection = connect(*arguments, **options, factory=Connection)
        connection.set_trace_callback(found.hear)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_on_the_writer)
    return found
