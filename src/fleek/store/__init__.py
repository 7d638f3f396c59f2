"""Rows in, values out: the only package that knows SQLAlchemy. SQLite and PostgreSQL alike."""
