"""The applications have tests of their own, which are run as theirs."""

collect_ignore = ["service"]
