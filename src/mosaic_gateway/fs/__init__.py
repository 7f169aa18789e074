"""Files and directories: bounded reading, writing as a whole, copying, removal, flushing, recorded digests."""
