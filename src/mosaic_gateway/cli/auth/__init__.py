"""The verbs on users, sessions and API tokens, one module for each group."""
