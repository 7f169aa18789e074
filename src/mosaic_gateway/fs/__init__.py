"""Files and directories: reading, atomic writing, flushing, recorded digests."""
