"""Root's part: what a process with user id 0 does for an account's installation, and nothing else."""
