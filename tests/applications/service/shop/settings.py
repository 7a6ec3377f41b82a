"""What the environment says."""

from __future__ import annotations

import os


def database_url() -> str:
    """Return the database of the shop's tables and of the library's, for SQLAlchemy with psycopg."""
    return os.environ["SHOP_DATABASE_URL"]
