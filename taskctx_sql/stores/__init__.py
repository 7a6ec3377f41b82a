"""The protocols of stores."""

from taskctx_sql.stores.context_store import ContextStore, Feature
from taskctx_sql.stores.pinging import answering
from taskctx_sql.stores.protocol import RevisionStore, Store, WatchableStore, check_updates, check_watch
from taskctx_sql.stores.selecting import choose_updates
from taskctx_sql.stores.state_store import StateStore
from taskctx_sql.stores.third_stores import StoreOpener, open_third_store
