"""The protocols of stores."""

from taskctx_sql.stores.pinging import answering
from taskctx_sql.stores.protocol import ContextStore, Feature, RevisionStore, Store, WatchableStore, check_watch
from taskctx_sql.stores.selecting import choose_updates
from taskctx_sql.stores.third_stores import StoreOpener, open_third_store
