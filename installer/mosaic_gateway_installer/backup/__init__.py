"""Backups: what they hold, how they are made, checked, and put back.

Theory of operation. A backup is a directory that is complete or not there: everything is written into
a temporary sibling, flushed, and renamed last. It holds the home's ``data/``, ``secrets/``, ``config.toml``
and receipt as they are in a home, and a manifest with size and SHA-256 of every file.

Three kinds. *Cold*: the files of a database at rest, compared with their source byte by byte. *Online*: the
files of a PostgreSQL that serves meanwhile (its low-level backup), and the log up to one instant, for which
the rows of every table were counted and hashed in the running database. *Dump*: ``pg_dump`` of a server that is not
ours, in one snapshot with that same count.

``copy``, ``compare`` and ``manifest`` know nothing of PostgreSQL.
"""
