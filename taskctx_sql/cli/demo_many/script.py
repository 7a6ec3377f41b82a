"""What happens in one task, save by save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Literal
from uuid import UUID

from taskctx_sql.cli.demo_many.work import MODELS, Tool, Work
from taskctx_sql.model import ContextKey, ContextUpdate, Delta, FileChange, Run, RunOutcome, Write

Ending = Literal["completed", "failed", "cancelled", "unfinished"]

_DAY: Final = 86_400.0
_FIRST_SEQ: Final = 1
# The label of all tasks.
MARK: Final = {"demo": "many"}


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What one task is.

    ``ends`` says how it ends; "unfinished" leaves its last call of a tool open. ``until`` is a time that nothing in it
    comes after.
    """

    key: ContextKey
    work: Work
    subject: str
    starts_at: float
    until: float
    ends: Ending
    title: str
    parent: str | None = None


class Script:
    """The saves of one task, in order; iterate over it once.

    ``sub_tasks`` has the times at which a part of the task was handed to another one.
    """

    def __init__(self, plan: TaskPlan, seed: int) -> None:
        self.plan = plan
        self.sub_tasks: list[float] = []
        self._random = Random(f"{seed} {plan.key.chat_id}")
        self._at = plan.starts_at
        self._next_seq = _FIRST_SEQ
        self._run: Run | None = None

    def __iter__(self) -> Iterator[Delta]:
        plan, work, chance = self.plan, self.plan.work, self._random
        labels = {"team": work.team, "project": work.project, "framework": work.framework, **MARK}
        steps = chance.randint(*work.steps)
        request = self._text(chance.choice(work.requests))
        yield self._save(
            [self._update("message", request, role="user")],
            labels=labels,
            title=plan.title,
            parent=plan.parent,
            state={"status": "working", "steps": steps},
        )
        for number in range(steps):
            yield from self._step(is_first=number == 0)
            if self._at >= plan.until:
                break
            if work.sub_task and number == steps // 2:
                self.sub_tasks.append(self._at)
        yield from self._last()

    def _step(self, *, is_first: bool) -> Iterator[Delta]:
        """A use of a model, the call of a tool that it asks for, and perhaps another try."""
        chance, tool = self._random, self._random.choice(self.plan.work.tools)
        use = self._model_use(1_500 if is_first else 6_000)
        call_id = f"call-{chance.getrandbits(48):012x}"
        yield self._save([self._call(tool, call_id)], models=[use])
        failed = chance.random() < tool.failure_rate
        yield self._save(self._result(tool, call_id, failed=failed), files=self._file(tool, failed=failed))
        if failed and chance.random() < 0.7:
            again = f"call-{chance.getrandbits(48):012x}"
            use = self._model_use(6_500)
            yield self._save([self._call(tool, again)], models=[use])
            yield self._save(self._result(tool, again, failed=chance.random() < tool.failure_rate / 2))

    def _last(self) -> Iterator[Delta]:
        plan, work, chance = self.plan, self.plan.work, self._random
        if plan.ends == "unfinished":
            yield self._save([self._call(chance.choice(work.tools), f"call-{chance.getrandbits(48):012x}")])
            return
        if plan.ends == "failed":
            error = f"ToolError: {chance.choice(work.tools).error}"
            yield self._save([self._update("error", {"error": error})], state={"status": "failed"}, ends=error)
            return
        if plan.ends == "cancelled":
            yield self._save([], state={"status": "cancelled"}, ends="CancelledError")
            return
        answer = self._update("message", self._text(work.answer), role="assistant")
        models = [self._model_use(7_000)]
        yield self._save([answer], models=models, files=self._file(None), state={"status": "done"}, ends="")
        if chance.random() < 0.25 and self._at + 2 * _DAY < plan.until:
            # The user comes back, and the answer is put right: in another run, and another day.
            self._pass(chance.uniform(0.05, 1.5) * _DAY)
            wrong = self._next_seq - 1
            right = self._update("message", self._text(work.correction), role="assistant")
            again = self._update("message", "That is not right. Please look again.", role="user")
            yield self._save([again], models=[self._model_use(8_000)], state={"status": "working"})
            yield self._save([right], removed=[wrong], state={"status": "done"}, ends="")

    def _save(
        self,
        updates: list[ContextUpdate],
        *,
        removed: list[int] | None = None,
        state: Mapping[str, Any] | None = None,
        ends: str | None = None,
        **content: Any,
    ) -> Delta:
        """Return the next save; with ``ends`` it ends the run, and the text is its error."""
        if self._run is None:
            run = Run(str(UUID(int=self._random.getrandbits(128), version=4)), 1, self._at)
        else:
            run = self._run.next_save()
        if ends is not None:
            outcome: RunOutcome = "completed"
            if ends:
                outcome = "cancelled" if self.plan.ends == "cancelled" else "failed"
            run = replace(run, ended_at=self._at, outcome=outcome, error=ends or None)
        self._run = None if ends is not None else run
        write = Write(
            self.plan.key, updates=updates, remove_updates=removed or (), state=state or {}, run=run, **content
        )
        delta = write.delta()
        delta.at = self._at
        self._next_seq += len(updates)
        return delta

    def _update(self, update_type: str, data: Any, **metadata: Any) -> ContextUpdate:
        metadata = {"framework": self.plan.work.framework, **metadata}
        return ContextUpdate(self._at, update_type, data, metadata)

    def _call(self, tool: Tool, call_id: str) -> ContextUpdate:
        arguments = {tool.argument: self.plan.subject}
        data = {"name": tool.name, "arguments": arguments}
        return self._update("tool_call", data, group=call_id, name=tool.name)

    def _result(self, tool: Tool, call_id: str, *, failed: bool) -> list[ContextUpdate]:
        self._pass(tool.seconds * self._random.lognormvariate(0, 0.5))
        if failed:
            return [self._update("tool_result", {"error": tool.error}, group=call_id, error=tool.error)]
        return [self._update("tool_result", {"result": tool.result}, group=call_id)]

    def _file(self, tool: Tool | None, *, failed: bool = False) -> list[FileChange]:
        if failed or not self.plan.work.files or (tool and tool.argument not in ("path", "document", "entry")):
            return []
        path = self._text(self._random.choice(self.plan.work.files))
        operation = "write" if tool is None or tool.name == "edit_file" else "read"
        source = tool.name if tool else "task"
        entry = {"operation": operation, "source": source, "timestamp": self._at, "state": "active"}
        return [FileChange(path, entry, None)]

    def _model_use(self, typical: int) -> dict[str, Any]:
        chance, model = self._random, MODELS[self._random.choice(self.plan.work.models)]
        read, written = int(chance.lognormvariate(0, 0.7) * typical), int(chance.lognormvariate(0, 0.6) * 260)
        cached = int(read * chance.choice((0, 0, 0.5, 0.8)))
        duration = 0.4 + written / model.tokens_a_second * chance.lognormvariate(0, 0.3)
        # Of the tokens that come from a cache a tenth is paid.
        cost = ((read - cached * 0.9) * model.read_price + written * model.write_price) / 1e6
        use = {
            "model_id": model.model_id,
            "provider_id": model.provider_id,
            "mode": self.plan.work.project,
            "timestamp": self._at,
            "input_tokens": read,
            "output_tokens": written,
            "cached_read_tokens": cached,
            "cost": round(cost, 6),
            "duration": round(duration, 3),
        }
        if model.reasons:
            use["reasoning_tokens"] = written // 3
        self._pass(duration)
        return use

    def _pass(self, seconds: float) -> None:
        self._at = min(self._at + seconds, self.plan.until)

    def _text(self, text: str) -> str:
        return text.replace("{subject}", self.plan.subject)
