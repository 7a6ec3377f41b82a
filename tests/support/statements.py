"""Reads SQL statements for what a Citus refuses, and for which contexts they touch."""

from __future__ import annotations

import re
from collections.abc import Iterator

from taskctx_sql.sql.schema import tables, views

OURS = {*tables.metadata.tables, *views.metadata.tables}

_VOLATILE = re.compile(
    r"\b(now|random|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|nextval|gen_random_uuid|"
    r"uuid_generate_v\d\w*|txid_current)\s*\(|\b(current_timestamp|current_date|current_time|localtime\w*)\b",
    re.IGNORECASE,
)
_KEY = re.compile(r"\b(?:PRIMARY KEY|UNIQUE|FOREIGN KEY)\s*(?:\(([^)]*)\))?", re.IGNORECASE)
_UNIQUE_INDEX = re.compile(r"^CREATE UNIQUE INDEX .*? ON \S+ (?:USING \w+ )?\((.*?)\)", re.IGNORECASE)
# Where a table stands whose rows are read or written, and what it is called there.
_TABLE = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|USING|COPY)\s+(?:ONLY\s+)?(?:\"?\w+\"?\.)?\"?(taskctx_\w+)\"?(?:\s+(?:AS\s+)?\"?(\w+)\"?)?"
    r"|,\s*\"?(taskctx_\w+)\"?(?:\s+(?:AS\s+)?(\w+))?(?=\s|$)",
    re.IGNORECASE,
)
_NO_ALIAS = {
    "where",
    "set",
    "on",
    "join",
    "left",
    "inner",
    "order",
    "group",
    "limit",
    "using",
    "values",
    "select",
    "for",
}
_FIXED = r"(?:\$\d+|'')"
_INSERT = re.compile(r"^(?:WITH .*? )?INSERT INTO \S+(?: AS \w+)? \(([^)]*)\) (VALUES|SELECT)\b(.*)$", re.IGNORECASE)


def normal(sql: str) -> str:
    """The statement on one line, its strings empty, and without comments and casts."""
    sql = re.sub(r"--[^\n]*", " ", sql)
    sql = re.sub(r"'(?:[^']|'')*'", "''", sql)
    sql = re.sub(r"::\w+(?:\[\])?", "", sql)
    return " ".join(sql.split())


def refused_forms(sql: str, *, migrates: bool = False) -> Iterator[str]:
    """What in a statement a Citus refuses.

    Args:
        sql: The statement.
        migrates: Whether it belongs to a migration, which is one at a time.
    """
    text = normal(sql)
    upper = text.upper()
    # The version has no context: it is on every machine.
    changes_table = upper.startswith(("CREATE TABLE", "ALTER TABLE")) and tables.VERSION_TABLE not in text
    for key in _KEY.finditer(text) if changes_table else ():
        # Without columns it belongs to one column, which would have to be the context's.
        column = key[1] or text[: key.start()].rpartition("(")[2].rpartition(",")[2]
        if "context_id" not in column:
            yield f"a key without context_id: {key[0]}"
    if (index := _UNIQUE_INDEX.search(text)) and "context_id" not in index[1]:
        yield "a unique index without context_id"
    if re.search(r"\bSET (NULL|DEFAULT)\b", upper) and re.search(r"\bON (DELETE|UPDATE)\b", upper):
        yield "SET NULL"
    if re.search(r"\bCREATE (OR REPLACE )?(CONSTRAINT )?TRIGGER\b", upper):
        yield "a trigger"
    _, conflict, action = text.partition(" DO UPDATE ")
    if conflict and _VOLATILE.search(action):
        yield "a volatile function in ON CONFLICT DO UPDATE"
    if re.search(r"\bVALUES\b.*\(\s*SELECT\b", upper):
        yield "a subselect in VALUES"
    if re.search(
        r"\bALTER (COLUMN )?\"?CONTEXT_ID\b|\bRENAME (COLUMN )?\"?CONTEXT_ID\b|\bDROP (COLUMN )?\"?CONTEXT_ID\b", upper
    ):
        yield "a change of the distribution column"
    if re.search(r"\bSET\b(?:(?!\bWHERE\b).)*?(?:\bSET |, )\"?CONTEXT_ID\"? =|\bSET \"?CONTEXT_ID\"? =", upper):
        yield "an assignment to the distribution column"
    for added in re.findall(r"\bADD COLUMN\b(?:[^,(]|\([^)]*\))*", upper):
        if re.search(r"\b(CONSTRAINT|PRIMARY KEY|UNIQUE|REFERENCES|CHECK)\b", added):
            yield "ADD COLUMN together with a constraint"
        if re.search(r"SERIAL|IDENTITY|NEXTVAL", added):
            yield "ADD COLUMN serial"
    if re.search(r"\bFOR (NO KEY )?(UPDATE|SHARE)\b", upper) and not is_routed(sql):
        yield "FOR UPDATE across contexts"
    if re.search(r"\bCTID\b", upper):
        yield "ctid"
    if re.search(r"\bPG_(TRY_)?ADVISORY", upper) and not migrates:
        yield "an advisory lock outside of migrations"


def tables_of(sql: str) -> set[str]:
    """Those of our tables and views that a statement names."""
    return {name for name, _ in _tables(normal(sql))} & OURS


def is_ours(sql: str) -> bool:
    """Whether a statement reads or writes rows of our tables."""
    verb = r"(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|COPY|TRUNCATE)\b"
    return bool(re.match(verb, normal(sql), re.IGNORECASE) and tables_of(sql))


def only_reads(sql: str) -> bool:
    """Whether it is a SELECT that locks nothing."""
    text = normal(sql).upper()
    writes = re.search(r"\b(INSERT INTO|UPDATE|DELETE FROM|MERGE INTO|FOR (NO KEY )?(UPDATE|SHARE))\b", text)
    return text.startswith(("SELECT", "WITH")) and writes is None


def is_routed(sql: str) -> bool:
    """Whether a statement fixes the context of each of its tables to a parameter: then one machine has all of it."""
    text = normal(sql)
    if re.match(r"COPY ", text, re.IGNORECASE):
        # Rows go to the machine of their context, each.
        return bool(re.match(r"COPY \S+ ?\([^)]*context_id", text, re.IGNORECASE))
    found = [(name, alias) for name, alias in _tables(text) if name in OURS]
    into = _INSERT.match(text)
    if into:
        names = [name.strip().strip('"') for name in into[1].split(",")]
        if "context_id" not in names:
            return False
        given = into[3].strip().lstrip("(").split(",")[names.index("context_id")].strip(" )")
        if not re.fullmatch(rf"(?:{_FIXED}|(?:\w+\.)?context_id)(?: AS \w+)?", given):
            return False
        found = found[1:]
    return _all_fixed(text, [alias for _, alias in found])


def _tables(text: str) -> list[tuple[str, str]]:
    """The tables of a statement, each with what it is called there."""
    found = []
    for match in _TABLE.finditer(text):
        name, alias = match[1] or match[3], match[2] or match[4]
        if text[: match.start()].upper().endswith("FOR "):
            continue
        found.append((name, name if alias is None or alias.lower() in _NO_ALIAS else alias))
    return found


def _all_fixed(text: str, aliases: list[str]) -> bool:
    """Whether there is, for each table, a condition that fixes its context, or that it is the one of another."""
    fixed: set[str] = set()
    for alias in set(aliases):
        column = rf"(?:\b{alias}\.)context_id\b" if len(set(aliases)) > 1 else rf"(?:\b{alias}\.)?\bcontext_id\b"
        conditions = re.findall(rf"{column} = {_FIXED}|{_FIXED} = {column}", text)
        if len(conditions) >= aliases.count(alias):
            fixed.add(alias)
    pairs = re.findall(r"\b(\w+)\.context_id = (\w+)\.context_id\b", text)
    for _ in aliases:
        for one, other in pairs:
            if {one, other} & fixed and {one, other} <= set(aliases):
                fixed |= {one, other}
    return set(aliases) <= fixed
