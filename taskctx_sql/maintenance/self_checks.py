"""The reference's diagnoses that need no store: they close resources and optimize a context of their own."""

from __future__ import annotations

from taskctx_sql.concurrency import blocking
from taskctx_sql.context import MemoryContext, Resources
from taskctx_sql.model import Diagnosis, Finding


def diagnose_resource_cleanup_issue() -> Diagnosis:
    """Check that a resource whose ``close()`` fails does not keep others from being closed."""

    class Probe:
        closed = False

        def __init__(self, *, fails: bool) -> None:
            self.fails = fails

        def close(self) -> None:
            self.closed = True
            if self.fails:
                raise RuntimeError("a failure on purpose")

    failed: list[str] = []
    resources = Resources(report=lambda name, error: failed.append(name))
    probes = [Probe(fails=False), Probe(fails=True)]
    for number, probe in enumerate(probes):
        resources.add(f"probe {number}", probe)
    resources.close_all_here(blocking)
    if failed != ["probe 1"] or not all(probe.closed for probe in probes) or resources.named:
        return Diagnosis((Finding("closing", "error", "in memory, a failing close() kept another resource open"),))
    message = "in memory, a failing close() is reported, and every other resource is closed"
    return Diagnosis((Finding("closing", "ok", message),))


def diagnose_context_optimization_issue() -> Diagnosis:
    """Check that optimizing a hundred updates to 50 characters leaves fewer of them."""
    context = MemoryContext({"user_id": "test", "chat_id": "test"})
    for number in range(100):
        context.add_context_update("test", f"data_{number}", {"index": number})
    if not context.optimize_context(max_size=50):
        return Diagnosis((Finding("optimizing", "error", "in memory, optimizing removed nothing"),))
    message = f"in memory, of 100 made-up updates optimizing keeps {len(context.context_history)}"
    return Diagnosis((Finding("optimizing", "ok", message),))
