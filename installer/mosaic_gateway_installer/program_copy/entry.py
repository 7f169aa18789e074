"""``__main__`` of a program copy: ``<python> -I -S -B <this directory> <verb> …``."""

from __future__ import annotations

import os
import sys

# Resolved, because the link "current" may change while this process runs.
PROGRAM_COPY = sys.path[0] = os.path.realpath(sys.argv[0])


import mosaic_modules  # type: ignore[import-not-found]  # noqa: E402 - `finder`, under its name in a program copy

try:
    mosaic_modules.install(PROGRAM_COPY)
except (OSError, ValueError) as error:
    sys.exit(
        f"the gateway's program in {PROGRAM_COPY} is damaged: {error}\n"
        "Install the package (pip install mosaic-gateway), and run its mosaic-gateway install."
    )


def _main() -> int:
    if sys.argv[1:2] == ["supervise"]:
        from mosaic_gateway.__main__ import run_words
        from mosaic_gateway.gateway.control.supervisor import main as supervise

        return supervise(sys.argv[2:], run_words)
    from mosaic_gateway_installer.cli import main

    return main(started_as=os.environ.pop("MOSAIC_GATEWAY_COMMAND", None))


if __name__ == "__main__":
    sys.exit(_main())
