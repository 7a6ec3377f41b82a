"""Stores and files to transfer, and what a report says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.json_files import file_name
from taskctx_sql.model import ChatImport, Imported


def chat_of(report: Imported, name: str) -> ChatImport:
    (found,) = (chat for chat in report.chats if name in chat.files)
    return found


def file_of(folder: Path, *datas: Any, chat: str = "c") -> Path:
    path = folder / file_name(ContextKey("u", chat))
    path.parent.mkdir(exist_ok=True)
    entries = [{"timestamp": 1.5, "update_type": "message", "data": data, "metadata": {}} for data in datas]
    path.write_text(json.dumps(entries, indent=2))
    return path


def url_of(store: SqlStore) -> str:
    return store._backend.engine.url.render_as_string(hide_password=False)
