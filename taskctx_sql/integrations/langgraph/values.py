"""Values of channels, writes and items as JSON: what the framework's serializer makes of them, as base64.

With the framework's plain serializer, texts, numbers, booleans and None stay as they are, so that SQL can read them.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

# [value] as it is, or [the serializer's type, base64 of its bytes].
Encoded = list[Any]

_AS_JSON: Final = frozenset({str, int, float, bool, type(None)})
# Whatever is not exactly a text, number, boolean, None, bytes, list or dictionary is refused, and never converted.
_EXACT: Final = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


class Values:
    """What a serializer makes of values, and how it reads them back."""

    def __init__(self, serializer: SerializerProtocol) -> None:
        self.serializer = serializer
        self._readable = isinstance(serializer, JsonPlusSerializer)
        inner = serializer.serde if isinstance(serializer, EncryptedSerializer) else serializer
        self._inner = inner if isinstance(inner, JsonPlusSerializer) else None

    @property
    def keeps_elements(self) -> bool:
        """Whether the elements of a list, serialized one by one, come back as those of the list would."""
        return self._inner is not None

    def encode(self, value: Any) -> Encoded:
        """Return a value as JSON."""
        if self._readable and type(value) in _AS_JSON:
            return [value]
        kind, content = self.serializer.dumps_typed(value)
        return [kind, b2a_base64(content, newline=False).decode("ascii")]

    def decode(self, encoded: Encoded) -> Any:
        """Return the value."""
        if len(encoded) == 1:
            return encoded[0]
        return self.serializer.loads_typed((encoded[0], a2b_base64(encoded[1])))

    def decode_again(self, encoded: Encoded) -> Any:
        """Return the value of what is decoded several times: each is an object of its own.

        It is no JSON afterwards: it has bytes in place of base64, which takes longer to decode than all the rest.
        """
        if len(encoded) == 1:
            return encoded[0]
        if isinstance(encoded[1], str):
            encoded[1] = a2b_base64(encoded[1])
        return self.serializer.loads_typed((encoded[0], encoded[1]))

    def fingerprints(self, values: Sequence[Any]) -> list[int]:
        """Return a number for each value: two share one only if they would be stored alike, but for 1 in 2 ** 64.

        A message is told by its fields, which takes a fraction of the time that serializing it takes. This is done for
        all of a list in each step, since elements can change in place.
        """
        pack, found = ormsgpack.packb, []
        for value in values:
            kind = type(value)
            try:
                if issubclass(kind, BaseModel):
                    more = value.__pydantic_extra__
                    extra = pack(more, option=_EXACT) if more else b""
                    found.append(hash((kind, pack(value.__dict__, option=_EXACT), extra)))
                else:
                    found.append(hash(pack(value, option=_EXACT)))
            except TypeError:
                assert self._inner is not None
                found.append(hash(self._inner.dumps_typed(value)))
        return found
