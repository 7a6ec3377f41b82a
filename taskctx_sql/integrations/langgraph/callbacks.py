"""What models and tools do in a graph, as a callback handler is told of it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from typing_extensions import override

from taskctx_sql import ContextKey, Store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph.home import Home
from taskctx_sql.integrations.langgraph.invocation import Invocation
from taskctx_sql.integrations.langgraph.row import FRAMEWORK


class ContextCallbackHandler(BaseCallbackHandler):
    """Records messages, uses of models with tokens and cost, and calls of tools, in the context of the thread.

    An invocation of a graph is a run, with its outcome. Pass the handler as ``config={"callbacks": [handler]}``; one
    handler serves any number of invocations, sync and async. Each model call and each tool call is one write.
    """

    def __init__(
        self,
        store: Store,
        *,
        user_id: str | None = None,
        key: ContextKey | None = None,
        raise_error: bool = True,
    ) -> None:
        """Record in a store.

        Args:
            store: An open store, which you close. Make the handler in the event loop that it was opened in, or in sync
                code if it was opened with a plain ``with``.
            user_id: Whose threads they are. If None, it is the ``user_id`` of the configuration's ``metadata``;
                "anonymous" if there is none.
            key: The context to record in, in place of that of the thread.
            raise_error: Whether an invocation fails if what it did cannot be recorded; otherwise that is logged.
        """
        super().__init__()
        self.raise_error = raise_error
        self._store, self._user_id, self._key = store, user_id, key
        self._home = Home()
        # By the id of every run, nested ones too, that has not ended.
        self._invocations: dict[UUID, Invocation] = {}

    def _begin(self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any] | None) -> Invocation:
        """Return the invocation that a run belongs to, which may begin with it."""
        invocation = self._invocations.get(parent_run_id) if parent_run_id else None
        if invocation is None:
            known = metadata or {}
            thread_id = str(known.get("thread_id", run_id))
            key = self._key or identity.key(FRAMEWORK, self._user_id or known.get("user_id"), thread_id)
            labels = identity.labels(FRAMEWORK, thread=thread_id) if self._key is None else {}
            invocation = Invocation(self._store, key, labels, run_id)
        self._invocations[run_id] = invocation
        return invocation

    def _end(self, run_id: UUID, work: Coroutine[Any, Any, None] | None, error: BaseException | None = None) -> None:
        """Do what ends a run, and end the invocation if it began with this run."""
        invocation = self._invocations.pop(run_id)
        try:
            if work is not None:
                self._home.block(work)
        finally:
            if invocation.root == run_id:
                self._home.block(invocation.end(error))

    @override
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        invocation = self._begin(run_id, parent_run_id, metadata)
        messages = inputs.get("messages") if isinstance(inputs, dict) else None
        if invocation.root == run_id and messages:
            self._home.block(invocation.messages(messages if isinstance(messages, list) else [messages]))

    @override
    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, None)

    @override
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, None, error)

    @override
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._begin(run_id, parent_run_id, metadata).model_starts(run_id, serialized, metadata or {}, kwargs)

    @override
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._begin(run_id, parent_run_id, metadata).model_starts(run_id, serialized, metadata or {}, kwargs)

    @override
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, self._invocations[run_id].model_ends(run_id, response))

    @override
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, self._invocations[run_id].model_fails(run_id, error), error)

    @override
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        invocation = self._begin(run_id, parent_run_id, metadata)
        name = str((serialized or {}).get("name") or kwargs.get("name") or "tool")
        arguments = input_str if inputs is None else inputs
        self._home.block(invocation.tool_starts(run_id, tool_call_id or str(run_id), name, arguments))

    @override
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, self._invocations[run_id].tool_ends(run_id, output))

    @override
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, self._invocations[run_id].tool_fails(run_id, error), error)
