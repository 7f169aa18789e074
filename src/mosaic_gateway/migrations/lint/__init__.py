"""Faults of migration files that show before they run: rules over PostgreSQL's own parse tree."""
