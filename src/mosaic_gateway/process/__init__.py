"""Processes: identity, accounts and privileges, starting and ending, locks, logs, full disks, messages between them."""
