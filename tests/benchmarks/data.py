"""What is saved: updates of about 400 bytes of JSON, the same ones in every run."""

from __future__ import annotations

import random
from typing import Any

WORDS = [
    *("retry", "plan", "extract", "rank", "embed", "verify", "parse", "summarize", "cite", "read", "naïve", "résumé"),
    *("分析", "数据", 'quote"', "tab\t", "context", "model", "token"),
]


def updates(count: int, seed: int = 7) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return (type, data, metadata), ``count`` times."""
    chance = random.Random(seed)
    return [_update(chance, number) for number in range(count)]


def _update(chance: random.Random, number: int) -> tuple[str, Any, dict[str, Any]]:
    text = " ".join(chance.choices(WORDS, k=38))
    data = {
        "role": chance.choice(("user", "assistant", "tool")),
        "content": text,
        "tokens": chance.randrange(4000),
        "score": chance.random(),
        "tags": chance.sample(("draft", "final", "cached", "slow"), 2),
        "done": chance.random() < 0.5,
    }
    return "message", data, {"source": "benchmark", "step": number}


FILE = {"operation": "read", "source": "benchmark", "timestamp": 1.5, "state": "active"}
MODEL = {"model_id": "gpt-4", "provider_id": "openai", "mode": "chat", "timestamp": 1.5}
