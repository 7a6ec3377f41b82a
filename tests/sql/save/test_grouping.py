"""Which saves travel together, and when, whatever writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from taskctx_sql import ContextKey
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.sql.retry import GRACE, within
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.group_commit import Answers, GroupCommit, in_tasks
from tests.support.contract import new_delta
from tests.support.waiting import SOON

Answer = Callable[[Answers[str]], None]


async def request(chat_id: str, data: object = "x") -> SaveRequest:
    return await SaveRequest.of(new_delta(ContextKey("u", chat_id), data), strict=False)


def name(asked: SaveRequest) -> str:
    return f"{asked.delta.key.chat_id}:{asked.delta.updates[0].data}"


class Writer:
    """Writes a group when the test says so, and answers each save with its name."""

    def __init__(self) -> None:
        self.groups: list[tuple[list[str], Answer]] = []

    def write(self, requests: list[SaveRequest], until: float | None, answer: Answer) -> None:
        self.groups.append(([name(asked) for asked in requests], answer))

    @property
    def sent(self) -> list[list[str]]:
        return [names for names, _ in self.groups]

    def answer(self, number: int) -> None:
        names, answer = self.groups[number]
        answer(names)


async def settle() -> None:
    """Let every task do what it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def started(groups: GroupCommit[str], *requests: SaveRequest) -> list[asyncio.Task[str]]:
    saves = [asyncio.create_task(groups.save(asked)) for asked in requests]
    await settle()
    return saves


async def test_a_single_save_is_sent_at_once() -> None:
    writer = Writer()
    saving = asyncio.create_task(GroupCommit(writer.write, "x").save(await request("a")))
    await asyncio.sleep(0)
    assert writer.sent == [["a:x"]]
    writer.answer(0)
    assert await saving == "a:x"


async def test_what_comes_while_one_is_under_way_shares_the_next_group() -> None:
    writer = Writer()
    groups: GroupCommit[str] = GroupCommit(writer.write, "x", max_group=3, max_in_flight=2)
    saves = await started(groups, *[await request(str(number)) for number in range(6)])
    assert writer.sent == [["0:x"], ["1:x", "2:x", "3:x"]]
    writer.answer(1)
    await settle()
    assert [save.done() for save in saves] == [False, True, True, True, False, False]
    assert writer.sent[2:] == [["4:x", "5:x"]]
    writer.answer(0)
    writer.answer(2)
    assert await asyncio.gather(*saves) == [f"{number}:x" for number in range(6)]


async def test_saves_of_one_context_never_travel_at_once_and_keep_their_order() -> None:
    writer = Writer()
    groups: GroupCommit[str] = GroupCommit(writer.write, "x", max_in_flight=3)
    requests = [await request(*each) for each in (("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2))]
    saves = await started(groups, *requests)
    assert writer.sent == [["a:1"], ["b:1"]]
    writer.answer(0)
    await settle()
    assert writer.sent[2:] == [["a:2"]]
    writer.answer(1)
    await settle()
    assert writer.sent[3:] == [["b:2"]]
    writer.answer(2)
    await settle()
    assert writer.sent[4:] == [["a:3"]]
    writer.answer(3)
    writer.answer(4)
    assert await asyncio.gather(*saves) == ["a:1", "a:2", "b:1", "a:3", "b:2"]


async def test_an_error_among_the_answers_is_that_of_one_save() -> None:
    writer = Writer()
    saves = await started(GroupCommit(writer.write, "x"), *[await request(each) for each in "abc"])
    writer.answer(0)
    writer.groups[1][1]([KeyError("b"), "c:x"])
    ends = await asyncio.gather(*saves, return_exceptions=True)
    assert [repr(end) for end in ends] == ["'a:x'", "KeyError('b')", "'c:x'"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_if_a_group_cannot_be_written_each_save_gets_the_error(at_once: bool) -> None:
    async def fail(requests: list[SaveRequest], until: float | None) -> Sequence[str]:
        raise KeyError(len(requests))

    def fail_at_once(requests: list[SaveRequest], until: float | None, answer: Answer) -> None:
        raise KeyError(len(requests))

    groups: GroupCommit[str] = GroupCommit(fail_at_once if at_once else in_tasks(fail), "x")
    saves = [groups.save(await request(each)) for each in "abc"]
    ends = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(end) for end in ends] == [KeyError] * 3
    await asyncio.wait_for(groups.close(), SOON)


async def test_one_that_waited_too_long_is_not_sent() -> None:
    writer = Writer()
    groups: GroupCommit[str] = GroupCommit(writer.write, "x", max_in_flight=1)
    first = await started(groups, await request("a"))
    with within(-GRACE):
        late = await started(groups, await request("a", "late"), await request("b", "late"))
    with within(60):
        last = await started(groups, await request("a", "last"))
    writer.answer(0)
    await settle()
    assert writer.sent == [["a:x"], ["a:last"]]
    writer.answer(1)
    ends = await asyncio.gather(*first, *late, *last, return_exceptions=True)
    assert [type(end) for end in ends] == [str, TimeoutError, TimeoutError, str]


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    writer = Writer()
    groups: GroupCommit[str] = GroupCommit(writer.write, "x", max_in_flight=1)
    saves = await started(groups, await request("a"), await request("a", "y"), await request("b"))
    closing = [asyncio.create_task(groups.close()) for _ in range(2)]
    await settle()
    with pytest.raises(StoreClosedError):
        await groups.save(await request("c"))
    writer.answer(0)
    await settle()
    assert not closing[0].done()
    writer.answer(1)
    await asyncio.gather(*saves, *closing)
    assert writer.sent == [["a:x"], ["b:x", "a:y"]]


async def test_a_cancelled_save_is_answered_first() -> None:
    writer = Writer()
    (saving,) = await started(GroupCommit(writer.write, "x"), await request("a"))
    saving.cancel()
    await settle()
    assert not saving.done()
    writer.answer(0)
    await settle()
    assert saving.cancelled()


async def test_a_task_that_is_cancelled_leaves_no_save_without_an_answer() -> None:
    async def write(requests: list[SaveRequest], until: float | None) -> Sequence[str]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return []

    groups: GroupCommit[str] = GroupCommit(in_tasks(write), "x")
    with pytest.raises(asyncio.CancelledError):
        await groups.save(await request("a"))
    await asyncio.wait_for(groups.close(), SOON)
