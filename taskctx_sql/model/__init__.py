"""What a context is made of, and what travels between a context and a store. No I/O."""

from taskctx_sql.model.connection_options import DEFAULT_CONNECTION, ConnectionOptions
from taskctx_sql.model.delta import Delta, FileChange, MappingChange, Saved
from taskctx_sql.model.finding import CHECKS, Diagnosis, Examination, Finding, Level
from taskctx_sql.model.key import ContextKey
from taskctx_sql.model.listing import ContextSummary, Listing, check_labels, check_title
from taskctx_sql.model.loaded import Loaded, StoredUpdate
from taskctx_sql.model.model_use import MODEL_FIELDS, MODEL_MEASURES, TOKEN_KINDS, TOKEN_PARTS, model_use
from taskctx_sql.model.open_call import TOOL_CALL, TOOL_RESULT, OpenCall
from taskctx_sql.model.retention import Pruned, PruneProgress, Receipt, Retention, check_interval
from taskctx_sql.model.revision import MISSING, Difference, Operation, Revision
from taskctx_sql.model.run import Run, RunOutcome
from taskctx_sql.model.selection import (
    Ask,
    Kept,
    Members,
    Selection,
    UpdateSize,
    Window,
    check_types,
    choose,
    choose_from,
)
from taskctx_sql.model.state import StateChange, StateEntry, StateKind
from taskctx_sql.model.transfer_results import (
    MAX_REPORTED,
    AddProgress,
    ChatImport,
    Damage,
    Imported,
    Problem,
    TransferOutcome,
    TransferProgress,
    Transferred,
    sum_progress,
)
from taskctx_sql.model.unread_update import Source, unread_updates
from taskctx_sql.model.update import ContextUpdate, watch_all
from taskctx_sql.model.write import PARENT, TITLE, NewUpdate, Write
