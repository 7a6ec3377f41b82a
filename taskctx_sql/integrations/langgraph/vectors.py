"""Search by meaning: the vectors of items' texts, and how near they are to that of a query."""

from __future__ import annotations

import math
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from typing import Any, Final

from langchain_core.embeddings import Embeddings
from langgraph.store.base import IndexConfig, PutOp
from langgraph.store.base.embed import ensure_embeddings, get_text_at_path, tokenize_path

from taskctx_sql.errors import InvalidArgumentError

Vector = Sequence[float]


def _dot(one: Vector, other: Vector) -> float:
    return math.fsum(map(mul, one, other))


def _cosine(one: Vector, other: Vector) -> float:
    length = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) / length if length else 0.0


# How near two vectors are: the greater, the nearer.
_NEARNESS: Final[Mapping[str, Callable[[Vector, Vector], float]]] = {
    "cosine": _cosine,
    "inner_product": _dot,
    "l2": lambda one, other: -math.dist(one, other),
}


class Index:
    """What an index configuration says: which texts of an item have vectors, and how they are made and compared.

    Vectors are kept as 32-bit floats. A search compares the query with each vector below its namespace.
    """

    def __init__(self, config: IndexConfig) -> None:
        """Read a configuration.

        Raises:
            InvalidArgumentError: The distance type is none of cosine, inner_product and l2.
        """
        distance = str(config.get("distance_type", "cosine"))
        if distance not in _NEARNESS:
            raise InvalidArgumentError("index['distance_type']", distance, " or ".join(map(repr, _NEARNESS)))
        self.embeddings: Embeddings = ensure_embeddings(config.get("embed"))
        self._nearness = _NEARNESS[distance]
        # The framework's store on SQLite has "text_fields", the others have "fields".
        fields: Any = config.get("fields") or config.get("text_fields") or "$"
        self._fields: Sequence[str] = [fields] if isinstance(fields, str) else fields

    async def vectors(self, operations: Sequence[PutOp]) -> list[list[str]]:
        """Return the vectors of each item that is put, as base64: one for each text."""
        texts = [self._texts(operation) for operation in operations]
        # Equal texts have one vector.
        distinct = list(dict.fromkeys(text for of_one in texts for text in of_one))
        vectors = await self.embeddings.aembed_documents(distinct) if distinct else []
        encoded = {text: _encode(vector) for text, vector in zip(distinct, vectors, strict=True)}
        return [[encoded[text] for text in of_one] for of_one in texts]

    def _texts(self, operation: PutOp) -> list[str]:
        if operation.value is None or operation.index is False:
            return []
        fields = self._fields if operation.index is None else operation.index
        return [
            text
            for field in fields
            for text in get_text_at_path(operation.value, "$" if field == "$" else tokenize_path(field))
        ]

    async def embed(self, query: str) -> Vector:
        """Return the vector of a query."""
        return await self.embeddings.aembed_query(query)

    def score(self, query: Vector, vectors: Sequence[str]) -> float:
        """Return how near the nearest of an item's vectors is to a query's."""
        return max(self._nearness(query, _decode(vector)) for vector in vectors)


def _encode(vector: Vector) -> str:
    return b2a_base64(array("f", vector).tobytes(), newline=False).decode("ascii")


def _decode(text: str) -> Vector:
    return array("f", a2b_base64(text))
