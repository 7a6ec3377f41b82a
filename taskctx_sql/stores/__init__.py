"""The protocols of stores."""

from taskctx_sql.stores.protocol import ContextStore, Feature, RevisionStore, Store, WatchableStore, check_watch
