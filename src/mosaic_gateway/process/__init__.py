"""Processes: identity, accounts and privileges, starting and ending, locks, logs, and messages between them."""
