"""Each framework's own store beside ours, doing the same work in turns: ``python -m tests.benchmarks.frameworks``."""
