"""A read-only server for the Model Context Protocol, by which agents look into their own record: ``taskctx mcp``.

With the extra ``mcp``.
"""

from taskctx_sql.mcp.server import record_server

__all__ = ["record_server"]
