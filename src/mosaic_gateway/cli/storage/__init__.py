"""The verbs that work on the database schema, one module each."""
