"""Run a folder of migrations and print the memory that it took, in a process of its own for each measurement.

    python tests/benchmarks/migrations_memory.py FOLDER CONNINFO

{"bare": bytes before any import, "peak": maximum in bytes, "applied": migrations}. Reads VmHWM in /proc, because
ru_maxrss of getrusage(2) is inherited across fork and execve and so includes the parent's memory.
"""

from __future__ import annotations

import sys


def high_water() -> int:
    """Return the largest resident set so far, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - nothing is imported yet
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main(folder: str, conninfo: str) -> None:
    """Run the migrations and print the measurements."""
    bare = high_water()
    import json  # noqa: PLC0415 - after the first measurement
    from pathlib import Path  # noqa: PLC0415 - as above

    import psycopg  # noqa: PLC0415 - as above

    from mosaic_gateway.migrations import Bundle, migrate  # noqa: PLC0415 - as above

    bundle = Bundle.from_directory(Path(folder))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        report = migrate(bundle, connection, on_event=lambda _event: None)
    print(json.dumps({"bare": bare, "peak": high_water(), "applied": len(report.applied)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
