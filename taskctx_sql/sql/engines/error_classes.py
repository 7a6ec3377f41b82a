"""What an engine's errors mean: worth another try, refused, in doubt; and what a user can do about them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import sqlite3
import ssl
from enum import Enum
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# SQLSTATE classes that mean "not now": connection, resources, operator intervention, rollback; and lock timeouts.
_TRANSIENT_CLASSES: Final = ("08", "53", "57", "40")
_TRANSIENT_STATES: Final = ("55P03", "25006")
# In a transient class, and yet final: one transaction exceeds a limit of the configuration.
_FINAL_STATES: Final = ("53400",)
# Classes that at COMMIT leave open whether it happened: the above, and failures of the server itself.
_UNKNOWN_CLASSES: Final = (*_TRANSIENT_CLASSES, "58", "F0", "XX")
# Classes whose cause is neither the server nor the data: states of transactions and cursors, names, the schema.
_OTHER_CLASSES: Final = ("25", "26", "28", "34", "3D", "3F", "42", "55")
# A server that only reads was asked to write: after a failover, the old primary.
_READ_ONLY_STATE: Final = "25006"
# A lock was not available within lock_timeout.
_LOCKED_STATE: Final = "55P03"
# A prepared statement does not exist, or exists already.
_LOST_STATEMENT_STATES: Final = ("26000", "42P05", "08P01")
# A missing privilege, or row-level security.
_DENIED_STATE: Final = "42501"
# A function of the library's in a message, whatever its language.
_FUNCTION: Final = re.compile(r"\btaskctx_\w+_v\d+\b")

# What psycopg says of a server that answered and refused the connection, without the SQLSTATE that the server gave.
# In other languages it is tried again, in vain.
_REFUSED_CONNECTION: Final = re.compile(
    r"FATAL: +(password authentication failed|no pg_hba\.conf entry|.+ authentication failed|"
    r"(database|role) \".*\" does not exist|permission denied for database)|no password supplied"
)
# What libpq and asyncpg say if TLS is not as the address demands; asyncpg by an OSError, as for a lost connection.
_REFUSED_TLS: Final = re.compile(
    r"certificate verify failed|certificate for .* does not match host name|does not match|rejected SSL upgrade|"
    r"server does not support SSL|channel binding (is )?required|(root )?certificate file .*does not exist|"
    r"could not (load|read) .*(certificate|private key) file|private key file .* (has|must)|"
    r"tlsv1\w* alert|sslv3 alert|TLSV1\w*_ALERT\w*|SSLV3_ALERT\w*",
)
# What poolers say of settings that a connection begins with.
_REFUSED_SETTINGS: Final = re.compile(r"unsupported startup parameter|doesn't support command-line options")

_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)
# The files of one connection: the database, its log, the log's index, and the folder.
_FILES_NEEDED: Final = 4

_COPY_IT: Final = (
    "to read it all the same, copy it, with the file ending in -wal if there is one, to where you may write"
)
CANNOT_OPEN: Final = f"check that the folder exists and that the file may be opened; {_COPY_IT}"
# What to do about SQLite's errors, by their code.
_REMEDIES: Final = {
    sqlite3.SQLITE_CANTOPEN: CANNOT_OPEN,
    sqlite3.SQLITE_READONLY: f"check the permissions of the file and its folder; {_COPY_IT}",
    sqlite3.SQLITE_FULL: "the disk is full: nothing that was saved is lost, and saving goes on when there is room",
    sqlite3.SQLITE_CORRUPT: "run `PRAGMA integrity_check`, and restore the file from a backup",
    sqlite3.SQLITE_BUSY: "another process holds the file",
}


class ErrorClass(Enum):
    """What an error of an engine means for a retry."""

    TRANSIENT = "try again"
    NOT_A_DATABASE = "the file is something else"
    FINAL = "trying again would not help"


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of Postgres, or None."""
    states = (getattr(cause, "sqlstate", None) for cause in _causes(error))
    return next((state for state in states if isinstance(state, str)), None)


def detail(error: BaseException) -> str | None:
    """Return the detail of an error of Postgres, or None."""
    cause = _driver_error(error)
    found = getattr(getattr(cause, "diag", None), "message_detail", None) or getattr(cause, "detail", None)
    return found if isinstance(found, str) else None


def _causes(error: BaseException) -> tuple[BaseException | None, ...]:
    return error, getattr(error, "orig", None), error.__cause__


def _driver_error(error: BaseException) -> BaseException:
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def _sqlite_code(error: BaseException) -> int | None:
    """Return the primary code of an error of SQLite; 0 for one of its driver, None for any other error."""
    cause = _driver_error(error)
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF if isinstance(cause, sqlite3.Error) else None


def classify(error: BaseException) -> ErrorClass:
    """Return what an error means for a retry."""
    if _is_refused_tls(error) or _REFUSED_SETTINGS.search(str(_driver_error(error))):
        return ErrorClass.FINAL
    if isinstance(error, OSError | PoolTimeoutError):
        # asyncpg raises plain OSErrors when it cannot connect.
        return ErrorClass.TRANSIENT
    state = sqlstate(error)
    if state is not None:
        in_class = state[:2] in _TRANSIENT_CLASSES and state not in _FINAL_STATES
        return ErrorClass.TRANSIENT if in_class or state in _TRANSIENT_STATES else ErrorClass.FINAL
    if _is_out_of_step(error) or _is_lost_psycopg(error):
        return ErrorClass.TRANSIENT
    code = _sqlite_code(error)
    if code is not None:
        if code == sqlite3.SQLITE_NOTADB:
            return ErrorClass.NOT_A_DATABASE
        is_transient = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or is_out_of_files(error)
        return ErrorClass.TRANSIENT if is_transient else ErrorClass.FINAL
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return ErrorClass.TRANSIENT if is_lost else ErrorClass.FINAL


def _is_refused_tls(error: BaseException) -> bool:
    cause = _driver_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    is_of_driver = isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] == "psycopg"
    return is_of_driver and _REFUSED_TLS.search(str(cause)) is not None


def is_failover(error: BaseException) -> bool:
    """Whether an error shows that the connection leads to a server that only reads."""
    return sqlstate(error) == _READ_ONLY_STATE


def breaks_connection(error: BaseException) -> bool:
    """Whether the connection that raised an error cannot be used again, though it may look intact."""
    return is_failover(error) or _is_out_of_step(error)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a lock was not available in time; nothing was done."""
    return _sqlite_code(error) == sqlite3.SQLITE_BUSY or sqlstate(error) == _LOCKED_STATE


def _is_out_of_step(error: BaseException) -> bool:
    """Whether asyncpg lost track of what the server sent; its error is none of the driver's usual ones."""
    kinds = (kind for cause in _causes(error) for kind in type(cause).__mro__)
    return any(kind.__name__ == "InternalClientError" and kind.__module__.startswith("asyncpg") for kind in kinds)


def _is_lost_psycopg(error: BaseException) -> bool:
    """Whether psycopg could not connect, or lost its connection: it says so by an error without an SQLSTATE."""
    kinds = [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(_driver_error(error)).__mro__]
    return ("psycopg", "OperationalError") in kinds and not _REFUSED_CONNECTION.search(str(_driver_error(error)))


def is_unknown_host(error: BaseException) -> bool:
    """Whether no address was found for the name of a host."""
    cause = _driver_error(error)
    # psycopg has no class for it.
    is_of_psycopg = type(cause).__module__.partition(".")[0] == "psycopg"
    return isinstance(cause, socket.gaierror) or (is_of_psycopg and "failed to resolve host" in str(cause))


def is_out_of_files(error: BaseException) -> bool:
    """Whether a file could not be opened because too many are open; SQLite has one code for all causes."""
    cause = _driver_error(error)
    if isinstance(cause, OSError):
        return cause.errno in _OUT_OF_FILES
    if _sqlite_code(error) != sqlite3.SQLITE_CANTOPEN:
        return False
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_FILES_NEEDED):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as failure:
            return failure.errno in _OUT_OF_FILES
    return False


def reason(error: BaseException) -> str:
    """Return an engine's message in one line, without the statement and its values, and what to do about it."""
    cause = _driver_error(error)
    # What psycopg adds to the server's message contains the statement, and may contain values.
    said = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
    message = f"{type(cause).__name__}: {' '.join(said.split())}"
    remedy = _REMEDIES.get(_sqlite_code(error) or 0)
    if is_out_of_files(error):
        remedy = "too many open files: close stores that are not used, or raise the limit (ulimit -n)"
    if sqlstate(error) in _LOST_STATEMENT_STATES or _REFUSED_SETTINGS.search(message):
        remedy = "behind a pooler in transaction mode, open the store with transaction_pooling=True"
    elif sqlstate(error) == _DENIED_STATE:
        remedy = (
            "check what is granted to the account, and after row-level security was switched on, open the store again; "
            "if one context alone is refused, somebody else has its context_id: look for the row as the owner"
        )
        if function := _FUNCTION.search(message):
            remedy = (
                f"as the owner of the tables, run `GRANT EXECUTE ON FUNCTION {function[0]} TO` the account; "
                "`taskctx doctor` finds all functions that it may not execute"
            )
    return f"{message}: {remedy}" if remedy else message


def is_denied(error: BaseException) -> bool:
    """Whether the file, or the account, may not write."""
    code = getattr(_driver_error(error), "sqlite_errorcode", 0)
    # Not by the primary code: it includes a file that was moved away, which does not mean that nothing may be written.
    known = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_CANTINIT, sqlite3.SQLITE_READONLY_DIRECTORY)
    return sqlstate(error) == _DENIED_STATE or code in known


def is_refusal(error: BaseException) -> bool:
    """Whether the database refuses the data of a transaction, so that it will refuse it again."""
    state = sqlstate(error)
    if state is not None:
        # A trigger may raise any class, so the ones with another meaning are excluded.
        return state in (_DENIED_STATE, *_FINAL_STATES) or state[:2] not in (*_UNKNOWN_CLASSES, *_OTHER_CLASSES)
    return _sqlite_code(error) in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)


def is_raised_by_writing(error: BaseException) -> bool:
    """Whether only writing rows raises an error, so that a save had already looked for an earlier copy of itself."""
    state = sqlstate(error)
    if state is not None:
        # Reading may lack a privilege as well.
        return state != _DENIED_STATE and is_refusal(error)
    return _sqlite_code(error) == sqlite3.SQLITE_FULL or is_refusal(error)


def is_in_doubt_alone(error: sqlite3.OperationalError) -> bool:
    """Whether an error of a statement of SQLite that is its own transaction leaves open if it was done."""
    return _sqlite_code(error) in (0, sqlite3.SQLITE_IOERR)


def is_in_doubt_at_commit(error: BaseException) -> bool:
    """Whether an error of COMMIT leaves open if it happened."""
    state = sqlstate(error)
    if state is not None:
        return state[:2] in _UNKNOWN_CLASSES and state not in (_LOCKED_STATE, *_FINAL_STATES)
    # After these SQLite still has the transaction, and it is rolled back; after an I/O error it may not. A damaged
    # file is not worth another try.
    definite = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT)
    return _sqlite_code(error) not in definite
