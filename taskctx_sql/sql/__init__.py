"""Contexts in SQLite and Postgres. Only this package knows SQLAlchemy and alembic."""
