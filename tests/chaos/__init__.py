"""The chaos harness: ``python -m tests.chaos`` shows that nothing acknowledged is ever lost.

Writers, mostly in processes of their own, acknowledge each save after it returned; something goes wrong meanwhile;
and a checker compares what was acknowledged with what is there. Of the library only its public names are used.
"""
