"""In-place upgrades: planning, steps, rollback on failure, and reverting a completed upgrade.

`plan` decides which steps run and what is refused, `facts` reads the state of the installation, `rollback` restores
data, secrets and settings from the backup, `fetch` downloads another version's package, `revert` returns to the
version before. The steps are in `steps`, the verb is in `verb`.
"""
