"""The verbs of the group ``backup``, one file each."""
