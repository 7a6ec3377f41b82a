"""Graphs that tests run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class Model(GenericFakeChatModel):
    """A model that answers with the given messages, one after the other."""

    def _get_ls_params(self, stop: Any = None, **options: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_model_type": "chat"}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call_of_add(call_id: str = "call-1") -> AIMessage:
    """A model's message that calls the tool, and what it used."""
    usage: Any = {
        "input_tokens": 100,
        "output_tokens": 20,
        "total_tokens": 120,
        "input_token_details": {"cache_read": 60, "cache_creation": 10, "audio": 5},
        "output_token_details": {"reasoning": 8},
    }
    calls = [{"name": "add", "args": {"a": 1, "b": 2}, "id": call_id}]
    return AIMessage("", id=f"ai-{call_id}", tool_calls=calls, usage_metadata=usage)


def agent(answers: Sequence[AIMessage], tools: Sequence[BaseTool] = (add,)) -> StateGraph[Any]:
    """A graph with a model and its tools."""
    model = Model(messages=iter(answers))

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", ask)
    graph.add_node("tools", ToolNode(list(tools)))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph
