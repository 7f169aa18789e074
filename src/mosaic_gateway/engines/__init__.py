"""What runs the database: one contract (``base``), the embedded PostgreSQL, and a server by URL."""
