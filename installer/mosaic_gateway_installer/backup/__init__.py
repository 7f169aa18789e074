"""Backups: their content, creation, verification, restore and pruning.

Theory of operation. A backup is a directory that appears complete or not at all: everything is written into
a temporary sibling, fsynced, and renamed last. It contains the home's ``data/``, ``secrets/``, ``config.toml``
and receipt as they are in a home, and a manifest with size and SHA-256 of every file.

There are three kinds. *Cold*: the files of a stopped database, compared with their source byte by byte. *Online*: the
files of a running PostgreSQL (its low-level backup API), and the WAL up to one instant, for which the rows of every
table were counted and hashed in the running database. *Dump*: ``pg_dump`` of a database server, with the rows counted
and hashed in the same snapshot.

`tree_copy`, `tree_comparison` and `manifest` do not depend on PostgreSQL.
"""
