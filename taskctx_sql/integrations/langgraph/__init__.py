"""LangGraph's checkpoints, its store, and what models and tools do in its graphs, in the tables of taskctx_sql."""

from taskctx_sql.integrations.requirements import needs

with needs("langgraph", "langgraph"):
    from taskctx_sql.integrations.langgraph.callbacks import ContextCallbackHandler
    from taskctx_sql.integrations.langgraph.item_store import ContextItemStore
    from taskctx_sql.integrations.langgraph.saver import ContextSaver

__all__ = ["ContextCallbackHandler", "ContextItemStore", "ContextSaver"]
