"""The writers of threads, which a saver and a callback handler share.

So what both write in one invocation is one run, and each of them knows what the other's last write has left.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from weakref import WeakKeyDictionary, proxy

from taskctx_sql import ContextKey, ContextWriter, Store

_MOST: Final = 1_000
_writers: WeakKeyDictionary[Store, OrderedDict[ContextKey, ContextWriter]] = WeakKeyDictionary()


def writer_of(store: Store, key: ContextKey) -> ContextWriter:
    """Return the writer of a context, the same one as long as it is among those that were asked for last.

    Whoever writes keeps the store: the writer has a weak reference, so that the store can go when nobody uses it.
    """
    writers = _writers.setdefault(store, OrderedDict())
    writer = writers.get(key)
    if writer is None:
        writer = writers[key] = ContextWriter(proxy(store), key)
    writers.move_to_end(key)
    if len(writers) > _MOST:
        writers.popitem(last=False)
    return writer


async def end_runs(store: Store) -> None:
    """Record that the runs of a store's threads have ended, before it is closed."""
    for writer in _writers.pop(store, {}).values():
        await writer.end()
