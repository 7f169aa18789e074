"""``mosaic-gateway install``: command, plan, steps, report."""
