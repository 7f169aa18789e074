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
    return run_words()


def run_words(words: Sequence[str] | None = None) -> int:
    """Run the command line *words* (default: this process's) without the installer's verbs; return its exit code."""
    # The supervisor itself does not need these modules.
    from mosaic_gateway.cli.owner_process import OwnerOnly  # noqa: PLC0415
    from mosaic_gateway.cli.preload import load  # noqa: PLC0415
    from mosaic_gateway.cli.root import RUNTIME_VERBS, run  # noqa: PLC0415

    return run(RUNTIME_VERBS, words, root_side=OwnerOnly(), load=load)


if __name__ == "__main__":
    sys.exit(main())
