"""`TaskContext`: a context in memory, its unsaved changes, and the store that keeps it."""

from taskctx_sql.task.context import TaskContext, build_context, task_context
