"""``python -m mosaic_gateway``: the verbs of an installation, without the installer's.

``supervise`` is none of them: it is how a starter runs the supervisor, which loads as little as it can.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    if sys.argv[1:2] == ["supervise"]:
        from mosaic_gateway.gateway.supervisor import main as supervise  # noqa: PLC0415 - see above

        return supervise(sys.argv[2:])
    from mosaic_gateway.cli.root import main as run  # noqa: PLC0415 - the supervisor does not need it

    return run()


if __name__ == "__main__":
    sys.exit(main())
