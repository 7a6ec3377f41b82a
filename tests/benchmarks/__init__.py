"""How fast it is, beside the limit: the raw driver doing the same rows in the same run."""
