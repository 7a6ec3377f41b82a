"""The contract of stores: saving, alone and beside other writers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql.errors import StaleContextError
from taskctx_sql.model import ContextKey
from taskctx_sql.stores import ContextStore, Feature
from taskctx_sql.testing.deltas import all_rows, new_delta, new_run, stored
from taskctx_sql.testing.running import ContractPart


class Saving(ContractPart):
    """What a save writes."""

    async def test_a_second_save_adds_to_the_first(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, "a"))
        second = await store.save(new_delta(key, "b", base=first.base))
        assert await stored(store, key) == ["a", "b"]
        assert second.first_seq == first.first_seq + 1

    async def test_each_save_makes_the_next_revision(self, store: ContextStore, key: ContextKey) -> None:
        base: Any = None
        revisions = []
        for number in range(3):
            saved = await store.save(new_delta(key, number, base=base))
            base = saved.base
            revisions.append(saved.revision)
        assert revisions == list(range(revisions[0], revisions[0] + 3))
        if Feature.REVISIONS in store.features:
            assert revisions[0] == 1
            assert (await store.load(key)).revision == 3

    async def test_a_save_without_content_makes_the_context_and_no_revision_after_that(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        first = await store.save(new_delta(key, "a"))
        second = await store.save(new_delta(key, base=first.base, run=new_run(ended_at=1.0, outcome="completed")))
        assert second.revision == first.revision
        assert second.complete

    async def test_an_empty_context_can_be_saved(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key))
        assert await store.delete(key)

    async def test_two_writers_on_one_context_both_keep_their_rows(self, store: ContextStore, key: ContextKey) -> None:
        start = await store.save(new_delta(key, "a"))
        one = await store.save(new_delta(key, "one", base=start.base))
        other = await store.save(new_delta(key, "other", base=start.base))
        assert await stored(store, key) == ["a", "one", "other"]
        assert one.complete
        assert not other.complete

    async def test_a_writer_that_never_loaded_appends(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, "a"))
        saved = await store.save(new_delta(key, "b"))
        assert await stored(store, key) == ["a", "b"]
        assert not saved.complete

    async def test_many_tasks_append_to_one_context_without_loss(self, store: ContextStore, key: ContextKey) -> None:
        async def write(writer: int) -> None:
            run = new_run()
            for number in range(1, 6):
                delta = new_delta(key, [writer, number], run=type(run)(run.run_id, number, run.started_at))
                await store.save(delta)

        await asyncio.gather(*(write(writer) for writer in range(16)))
        rows = await all_rows(store, key)
        datas = [tuple(row.update.data) for row in rows]
        assert sorted(datas) == [(writer, number) for writer in range(16) for number in range(1, 6)]
        assert [row.seq for row in rows] == list(range(rows[0].seq, rows[0].seq + 80))
        for writer in range(16):
            assert [number for who, number in datas if who == writer] == [1, 2, 3, 4, 5]

    async def test_first_writers_at_once_make_one_context(self, store: ContextStore, key: ContextKey) -> None:
        await asyncio.gather(*(store.save(new_delta(key, number)) for number in range(30)))
        assert sorted(await stored(store, key)) == list(range(30))
        assert len(await store.contexts(key.user_id)) == 1


class SaveIdentity(ContractPart):
    """A save that is repeated is written once."""

    async def test_a_copy_of_a_save_writes_nothing_and_answers_the_same(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        delta = new_delta(key, "a", "b", base=(await store.load(key)).base)
        first = await store.save(delta)
        again = await store.save(delta)
        assert await stored(store, key) == ["a", "b"]
        assert again == first

    async def test_copies_of_a_save_sent_at_once_write_once(self, store: ContextStore, key: ContextKey) -> None:
        delta = new_delta(key, "a", base=(await store.load(key)).base)
        answers = await asyncio.gather(*(store.save(delta) for _ in range(8)))
        assert await stored(store, key) == ["a"]
        assert all(answer == answers[0] for answer in answers)

    async def test_a_copy_that_comes_after_others_saved_writes_nothing(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        delta = new_delta(key, "a", base=(await store.load(key)).base)
        first = await store.save(delta)
        await store.save(new_delta(key, "other", base=first.base))
        again = await store.save(delta)
        assert (again.revision, again.first_seq) == (first.revision, first.first_seq)
        assert await stored(store, key) == ["a", "other"]

    async def test_the_next_save_of_a_run_is_no_copy(self, store: ContextStore, key: ContextKey) -> None:
        run = new_run()
        first = await store.save(new_delta(key, "a", run=run))
        await store.save(new_delta(key, "a", run=type(run)(run.run_id, 2, run.started_at), base=first.base))
        assert await stored(store, key) == ["a", "a"]


class Unchanged(ContractPart):
    """Saves that ask for an unchanged context."""

    async def test_an_unchanged_context_is_saved(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, "a"))
        loaded = await store.load(key)
        await store.save(new_delta(key, "b", base=loaded.base, if_unchanged=True))
        assert await stored(store, key) == ["a", "b"]
        assert first.revision > 0

    async def test_a_changed_context_is_refused_and_nothing_is_written(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        await store.save(new_delta(key, "a"))
        loaded = await store.load(key)
        await store.save(new_delta(key, "other"))
        with pytest.raises(StaleContextError) as caught:
            await store.save(new_delta(key, "b", base=loaded.base, if_unchanged=True))
        assert caught.value.found > caught.value.expected
        assert await stored(store, key) == ["a", "other"]

    async def test_a_context_that_appeared_meanwhile_is_refused(self, store: ContextStore, key: ContextKey) -> None:
        base = (await store.load(key)).base
        await store.save(new_delta(key, "other"))
        with pytest.raises(StaleContextError):
            await store.save(new_delta(key, "b", base=base, if_unchanged=True))

    async def test_one_of_many_wins_when_all_ask_for_an_unchanged_context(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        await store.save(new_delta(key, "a"))
        base = (await store.load(key)).base
        deltas = [new_delta(key, number, base=base, if_unchanged=True) for number in range(8)]
        answers = await asyncio.gather(*(store.save(delta) for delta in deltas), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, StaleContextError)]
        assert len(refused) == 7
        assert len(await stored(store, key)) == 2
