"""Files and directories: bounded reading, atomic writing, flushing, recorded digests."""
