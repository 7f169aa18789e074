"""Database engines: the common contract (``base``), embedded PostgreSQL, PGlite, and a server named by URL."""
