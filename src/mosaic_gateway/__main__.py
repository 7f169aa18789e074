"""``python -m mosaic_gateway``: the verbs of an installation, without the installer's verbs.

``supervise`` is not a verb for users. ``start`` uses it to run the supervisor, which imports as little as possible.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main() -> int:
    """Run the command line of this process and return its exit code."""
    if sys.argv[1:2] == ["supervise"]:
        from mosaic_gateway.gateway.control.supervisor import main as supervise  # noqa: PLC0415 - see above

        return supervise(sys.argv[2:], run_words)
    from mosaic_gateway.cli.root import main as run  # noqa: PLC0415 - the supervisor does not need it

    return run()


def run_words(words: Sequence[str]) -> int:
    """Run the command line *words* without the installer's verbs and return its exit code."""
    from mosaic_gateway.cli.root import main as run  # noqa: PLC0415 - the supervisor itself does not need it

    return run(words)


if __name__ == "__main__":
    sys.exit(main())
