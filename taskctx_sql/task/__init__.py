"""`TaskContext`: what is in memory, what of it is unsaved, and the place where it is kept."""

from taskctx_sql.task.context import TaskContext, build_context, task_context
