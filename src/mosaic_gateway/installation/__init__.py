"""An installation on disk: the layout of its home, root's record of it, and the state of an upgrade."""
