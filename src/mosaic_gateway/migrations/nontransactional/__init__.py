"""Statements that PostgreSQL refuses inside a transaction block."""
