"""The web page `taskctx ui`: a read-only application over a store.

It serves the views of ``taskctx_sql.pages``. The extra ``ui`` has what it is built on, Starlette, uvicorn and Jinja.
"""
