"""Contexts from one place to another: import, export and copy."""
