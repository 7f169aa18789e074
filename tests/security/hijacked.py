"""Run root's command with a hijacked worker: it executes a program of the account, which has the broker's socket.

Arguments: the program, then the words of root's command. The socket is descriptor 3 of the program.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from mosaic_gateway import cli as runtime
from mosaic_gateway_installer import cli

PYTHON = "/usr/bin/python3"
CHANNEL = 3


def main() -> int:
    """Run root's command with a worker that executes the account's program."""
    program = sys.argv.pop(1)

    def execute_program(*_words: object, **_facts: object) -> NoReturn:
        os.set_inheritable(CHANNEL, True)  # noqa: FBT003 - its parameter is positional-only
        os.execv(PYTHON, [PYTHON, "-I", program])  # noqa: S606 - no shell is wanted

    setattr(runtime, "run_words", execute_program)  # noqa: B010 - an attack uses no public interface
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
