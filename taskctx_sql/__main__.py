"""``python -m taskctx_sql`` is the command ``taskctx``."""

from taskctx_sql.cli import main

main(prog_name="taskctx")
