"""Starting, stopping and supervising a gateway from outside of its process."""
