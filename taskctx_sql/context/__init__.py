"""A context in memory: its content, and which of it is unsaved. No I/O."""

from taskctx_sql.context.in_memory import Clock, MemoryContext
from taskctx_sql.context.observable import plain_entry
from taskctx_sql.context.optimize import Dropped, OptimizePlan, updates_until
from taskctx_sql.context.resources import Resources
from taskctx_sql.context.saving_state import Handout
from taskctx_sql.context.unsaved import Unsaved
