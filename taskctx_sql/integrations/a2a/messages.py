"""Messages of a history, parsed from their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from a2a.types.a2a_pb2 import Message
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.json_format import ParseDict

# What a message or a part is made of, by its name in JSON, where JSON and the message have the same text.
_FIELDS: Final = {
    "messageId": "message_id",
    "contextId": "context_id",
    "taskId": "task_id",
    "role": "role",
    "extensions": "extensions",
    "referenceTaskIds": "reference_task_ids",
}
_PART_FIELDS: Final = {"text": "text", "url": "url", "filename": "filename", "mediaType": "media_type"}


def parse_message(data: Mapping[str, Any], history: RepeatedCompositeFieldContainer[Message]) -> None:
    """Append a message to a history. The parser of Protobuf takes ten times as long, so only what needs it gets it.

    Args:
        data: The message as JSON.
        history: The messages of a task.
    """
    try:
        fields = {_FIELDS[name]: value for name, value in data.items() if name != "parts"}
        parts = [{_PART_FIELDS[name]: value for name, value in part.items()} for part in data.get("parts", ())]
    except KeyError:
        # Something that JSON has in a form of its own, such as bytes or metadata.
        ParseDict(data, history.add())
        return
    history.add(**fields, parts=parts)
