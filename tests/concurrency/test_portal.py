"""The sync face forwards to an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, blocking, open_store
from taskctx_sql.concurrency.daemon_threads import DaemonThreads
from tests.conftest import connection_of, wide
from tests.support.contract import stored
from tests.support.waiting import SOON


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


def test_the_result_comes_back() -> None:
    assert blocking(double(4)) == 8


def test_an_error_comes_back() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        blocking(fail())


def test_an_async_iterator_becomes_an_iterator() -> None:
    assert list(blocking(count(3))) == [0, 1, 2]


def test_an_iterator_given_up_is_closed() -> None:
    closed: list[bool] = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    for _ in blocking(rows()):
        break
    assert closed == [True] or closed == []
    iterator = blocking(rows())
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert closed[-1] is True


async def test_it_works_inside_another_loop() -> None:
    assert blocking(double(4)) == 8


def test_waiting_for_itself_is_refused() -> None:
    async def inner() -> None:
        blocking(double(1))

    with pytest.raises(RuntimeError, match="use await there"):
        blocking(inner())


def test_all_threads_share_one_loop() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    found: list[asyncio.AbstractEventLoop] = []
    threads = [threading.Thread(target=lambda: found.append(blocking(loop()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    assert blocking(double(1)) == 2
    child = os.fork()
    if child == 0:
        os._exit(blocking(double(21)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_an_iterator_on_its_own_loop_is_refused_too() -> None:
    async def inner() -> None:
        blocking(count(1))

    with pytest.raises(RuntimeError, match="use await there"):
        blocking(inner())


def test_an_iterator_that_came_to_its_own_loop_is_refused_there() -> None:
    rows = blocking(count(2))

    async def inner() -> None:
        next(rows)

    with pytest.raises(RuntimeError, match="use await there"):
        blocking(inner())


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * SOON, check=False)


OPENING = """
import asyncio, atexit, sys, threading, time
from taskctx_sql import blocking, open_store, task_context

def work():
    with open_store(sys.argv[1]) as store:
        with task_context({"user_id": "u", "chat_id": "c"}, store=store) as context:
            context.add_context_update("message", "late")

async def work_there():
    async with open_store(sys.argv[1]) as store:
        async with task_context({"user_id": "u", "chat_id": "c"}, store=store) as context:
            context.add_context_update("message", "late")
"""
LATE = {
    "a thread": "threading.Thread(target=lambda: (time.sleep(0.3), work())).start()",
    "a thread of a thread": """
def start():
    time.sleep(0.3)
    threading.Thread(target=work).start()
threading.Thread(target=start).start()
""",
    "a thread with a loop of its own": """
threading.Thread(target=lambda: (time.sleep(0.3), asyncio.run(work_there()))).start()
""",
    "atexit": "atexit.register(work)",
    "atexit, in a loop of its own": "atexit.register(lambda: asyncio.run(work_there()))",
    "atexit, when the loop ran already": "work(); atexit.register(work)",
}


@pytest.mark.wide
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("of", ["sqlite", "postgres", *wide("json")])
def test_what_is_saved_when_the_main_thread_is_through_is_there(
    late: str, of: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = connection_of(of, tmp_path, request).address
    user = f"late-{uuid.uuid4().hex[:8]}"
    ended = _run(OPENING.replace('"user_id": "u"', f'"user_id": "{user}"') + LATE[late], address)
    assert (ended.returncode, ended.stderr) == (0, "")

    async def there() -> list[object]:
        async with open_store(address) as store:
            return await stored(store, ContextKey(user, "c"))

    assert asyncio.run(there()) == ["late"] * (2 if "already" in late else 1)


AT_THE_END = {
    "leaving a context": "context = task_context({'user_id': 'u'}, database_url=sys.argv[1]); end = context.__exit__",
    "closing a store": "store = open_store(sys.argv[1]); store.__enter__(); end = store.__exit__",
    "waiting": "end = lambda *_: blocking(asyncio.sleep(0))",
}


@pytest.mark.parametrize("what", AT_THE_END)
def test_waiting_while_the_interpreter_ends_is_refused(what: str, tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from taskctx_sql import blocking, open_store, task_context
{AT_THE_END[what]}
if hasattr(sys.modules[__name__], "context"):
    context.__enter__()
class Last:
    def __del__(self, end=end):
        end(None, None, None)
last = Last()
"""
    ended = _run(program, f"sqlite:///{tmp_path}/x.db")
    assert "the interpreter is ending" in ended.stderr
    assert "never awaited" not in ended.stderr


def test_a_loop_over_rows_that_is_left_at_the_end_hangs_nobody(tmp_path: Path) -> None:
    program = """
    from taskctx_sql import blocking
    async def rows():
        yield 1
        yield 2
    rows = iter(blocking(rows()))
    next(rows)
    """
    assert _run(program).returncode == 0


@pytest.mark.parametrize(
    ("module", "ask", "patched"),
    [("gevent.monkey", "is_module_patched", "threading"), ("eventlet.patcher", "is_monkey_patched", "thread")],
)
def test_threads_that_were_replaced_are_refused_before_the_block_runs(
    module: str, ask: str, patched: str, tmp_path: Path
) -> None:
    # What both say after their monkey patching; neither need be installed.
    program = f"""
    import sys, types
    sys.modules["{module}"] = types.SimpleNamespace({ask}=lambda name: name == "{patched}")
    from taskctx_sql import task_context
    with task_context({{"user_id": "u"}}, database_url=sys.argv[1]):
        print("ran")
    """
    ended = _run(program, f"sqlite:///{tmp_path}/x.db")
    assert f"{module.partition('.')[0]} has replaced the threads" in ended.stderr
    assert "ran" not in ended.stdout


@pytest.mark.parametrize("way", ["with", "async with"])
@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_queues_that_were_replaced_without_the_threads_are_refused_and_not_waited_at(
    kind: str, way: str, tmp_path: Path
) -> None:
    # As gevent does with monkey.patch_all(thread=False): nobody who waits at one in a thread is ever woken.
    program = f"""
    import asyncio, queue, sys, time, types
    class SimpleQueue(list):
        put = list.append
        def get(self, *_, **__): time.sleep(60)
        get_nowait = get
    queue.SimpleQueue = SimpleQueue
    sys.modules["gevent.monkey"] = types.SimpleNamespace(is_module_patched=lambda name: name == "queue")
    from taskctx_sql import task_context
    context = lambda: task_context({{"user_id": "u"}}, database_url=sys.argv[1])
    if "{way}" == "with":
        with context():
            print("ran")
    async def work():
        async with context():
            print("ran")
    asyncio.run(work())
    """
    address = f"sqlite:///{tmp_path}/x.db" if kind == "sqlite" else f"json:///{tmp_path}"
    ended = _run(program, address)
    assert "gevent has replaced the queues" in ended.stderr
    assert "ran" not in ended.stdout


def test_threads_that_live_as_long_as_the_process_do_what_an_executor_does() -> None:
    threads = DaemonThreads(2, "taskctx-blocking-test")
    assert sorted(threads.map(lambda number: 2 * number, range(20))) == list(range(0, 40, 2))

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        threads.submit(fail).result()
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("taskctx-blocking-test")]
    assert len(names) == 2
    threads.shutdown()
    assert threads.submit(lambda: 1).result() == 1
