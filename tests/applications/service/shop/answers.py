"""What happens to a question about an order: the model answers, and all of it is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from shop.models import Order
from taskctx_sql import Store, task_context

PRICE = 0.001  # of a word


async def model(question: str) -> AsyncIterator[str]:
    """Yield the answer word by word, as a model's client does."""
    if not question.strip():
        raise ValueError("the question is empty")
    for word in ("your", "order", "is", "on", "its", "way"):
        await asyncio.sleep(0)
        yield word


async def answer(order: Order, question: str, store: Store) -> AsyncIterator[str]:
    """Yield the answer, and record the question, the model's use and the answer in the order's context.

    A question is saved before the model is asked: it stays, whatever becomes of the answer.
    """
    data = {"user_id": order.customer, "chat_id": order.chat_id}
    async with task_context(data, store=store, history_limit=20) as context:
        context.add_context_update("question", {"text": question}, {"source": "customer"})
        await context.save()
        words: list[str] = []
        try:
            async for word in model(question):
                words.append(word)
                yield word
        finally:
            if words:
                context.track_model_usage(
                    "small", "in-house", "answer", output_tokens=len(words), cost=PRICE * len(words)
                )
                context.add_context_update("answer", {"text": " ".join(words)}, {"source": "model"})
