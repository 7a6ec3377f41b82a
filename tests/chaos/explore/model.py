"""The plain model: what the context must hold, as a dictionary of marked items.

Each addition brings three updates, a file, a use of a model, a metadata key and a toggle of one mark, so that a part of
a save shows. The marks of the program are numbered, and the history has them in that order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from taskctx_sql import Feature, TaskContext

# An item is (its kind, its mark), and its value what it says beside the mark.
Item = tuple[str, str]
State = dict[Item, str]


def items_of(context: TaskContext, features: frozenset[Feature]) -> State:
    """What a context holds in memory.

    Raises:
        ValueError: It holds an item twice, or what was never added.
    """
    found: list[tuple[Item, str]] = []
    for update in context.context_history:
        if update.update_type == "file_operation":
            found.append((("update", f"{update.data['path']}/file"), ""))
        elif update.update_type == "model_usage":
            found.append((("update", f"{update.data['model_id']}/model"), ""))
        elif isinstance(update.data, dict) and "mark" in update.data:
            found.append((("update", update.data["mark"]), update.data["says"]))
        else:
            raise ValueError(f"an update that nobody added: {update}")
    if Feature.TRACKERS in features:
        found += [(("file", str(path)), "") for path in context.file_tracker]
        found += [(("model", str(entry["model_id"])), "") for entry in context.model_tracker]
    if Feature.METADATA in features:
        found += [(("metadata", key), str(value)) for key, value in context.metadata.items()]
        found += [(("toggle", key), str(value)) for key, value in context.metadata_toggles.items()]
    state = dict(found)
    if len(state) != len(found):
        times = Counter(item for item, _ in found)
        raise ValueError(f"doubled: {sorted(item for item, count in times.items() if count > 1)}")
    return state


def add(context: TaskContext, mark: str) -> None:
    context.add_context_update("message", {"mark": mark, "says": ""})
    context.track_file_operation(mark, "write")
    context.track_model_usage(mark, "provider", "explore", input_tokens=1)
    context.metadata[mark] = "on"
    context.metadata_toggles[mark] = False


def parts_of(mark: str, features: frozenset[Feature]) -> State:
    """What `add` brings, as it is kept by a store of these features."""
    parts = {("update", mark): "", ("update", f"{mark}/file"): "", ("update", f"{mark}/model"): ""}
    if Feature.TRACKERS in features:
        parts |= {("file", mark): "", ("model", mark): ""}
    if Feature.METADATA in features:
        parts |= {("metadata", mark): "on", ("toggle", mark): "False"}
    return parts


def marks_of(state: State) -> set[str]:
    return {item[1].partition("/")[0] for item in state}


def ours(state: State) -> State:
    """Without what the second writer added."""
    return {item: value for item, value in state.items() if not item[1].startswith("other")}


@dataclass
class Model:
    """What the program did, and what has to come of it.

    Attributes:
        present: What the context must hold once it is saved, of the program's own items.
        acknowledged: What it held when a save returned the last time.
        operations: What can be taken back: the states before and after.
        past: What revisions were, the second writer's items included, as they were seen when they were the newest.
        split: Items that left without their pair, which says nothing about saves.
        rewritten: Marks of updates that were edited after somebody removed them, and so are written anew, at the end.
        gone: Somebody else removed the context, so that what was acknowledged until then may be gone.
        pruned: Somebody removed earlier states, so that they may be refused.
        others: Marks that the second writer saved.
    """

    features: frozenset[Feature]
    present: State = field(default_factory=dict)
    acknowledged: State = field(default_factory=dict)
    operations: list[tuple[State, State]] = field(default_factory=list)
    past: dict[int, State] = field(default_factory=dict)
    split: set[str] = field(default_factory=set)
    rewritten: set[str] = field(default_factory=set)
    gone: bool = False
    pruned: bool = False
    others: set[str] = field(default_factory=set)
    marks: int = 0

    def new_mark(self) -> str:
        self.marks += 1
        return f"m{self.marks:03}"

    def added(self, mark: str) -> None:
        self.present |= parts_of(mark, self.features)

    def removed(self, kept: State) -> None:
        """The program took updates out of memory: those of ``present`` that memory does not have any more."""
        for item in [item for item in self.present if item not in kept]:
            self.split.add(item[1].partition("/")[0])
            del self.present[item]
        self.split.add("other")

    def taken_back(self) -> State:
        """What undoing the last operation gives."""
        before, after = self.operations[-1]
        now = self.present
        undone = {item: value for item, value in now.items() if item in before or item not in after}
        for item, value in before.items():
            if item not in after or now.get(item) == after[item]:
                undone[item] = value
        return undone

    def faults_of(self, found: State, what: str) -> list[str]:
        """Compare a state with what must be there."""
        mine, present = ours(found), self.present
        problems = []
        lost = [item for item in present if item not in mine]
        if lost and not self.gone:
            problems.append(f"lost in {what}: {lost}")
        if extra := [item for item in mine if item not in present]:
            problems.append(f"back in {what}, and was removed: {extra}")
        changed = [item for item in mine if item in present and mine[item] != present[item]]
        if changed:
            problems.append(f"other in {what}: {[(item, mine[item], present[item]) for item in changed]}")
        order = [mark for kind, mark in mine if kind == "update" and "/" not in mark and mark not in self.rewritten]
        if order != sorted(order):
            problems.append(f"out of order in {what}: {order}")
        return problems

    def torn(self, state: State, what: str) -> list[str]:
        """Whether a state has a part of a save."""
        for mark in marks_of(state) - self.split:
            if any(part not in state for part in parts_of(mark, self.features)):
                return [f"torn in {what}: {mark} is there in part"]
        return []
