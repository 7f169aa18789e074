"""``mosaic-gateway uninstall``: command, steps, and the inventory of what is removed."""
