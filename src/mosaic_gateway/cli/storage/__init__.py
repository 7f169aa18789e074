"""The verbs on the database schema; each in a file of its own."""
