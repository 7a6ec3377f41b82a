"""The command ``taskctx``: one module for each group of commands."""

from taskctx_sql.cli.program import main
