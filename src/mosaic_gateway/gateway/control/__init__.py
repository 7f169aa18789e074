"""Starting, stopping and supervising a gateway from outside its process."""
