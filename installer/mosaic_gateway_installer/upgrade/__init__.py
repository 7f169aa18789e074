"""Upgrades in place: what is to be done, what is refused, and the way back.

`plan` decides, `facts` looks, `rollback` brings data, secrets and settings back from the backup, `fetch` gets
another version's package. The steps are in `steps.upgrade`, the verb in `verbs.upgrade`.
"""
