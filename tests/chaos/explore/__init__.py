"""``python -m tests.chaos explore``: programs of the public calls, with one thing done at each step and each statement.

`loop` counts the steps of an event loop and `statements` what goes to a database or a file; `points` does something at
one of them. `programs` are the calls, `model` says what they come to, and `running` runs one against the other.
"""
