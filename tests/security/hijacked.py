"""Runs root's command with a worker that the account has taken over: it sends what it likes over the socket.

Arguments: a program of the account's, then the words of root's command. The program gets the socket as descriptor 3.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from mosaic_gateway_installer import cli
from mosaic_gateway_installer.root import session

PYTHON = "/usr/bin/python3"
CHANNEL = 3


def main() -> int:
    """Run root's command, whose worker becomes the account's program."""
    program = sys.argv.pop(1)

    def become_it(*_words: object, **_facts: object) -> NoReturn:
        os.set_inheritable(CHANNEL, True)  # noqa: FBT003 - as the system call has it
        os.execv(PYTHON, [PYTHON, "-I", program])  # noqa: S606 - no shell is wanted

    setattr(session, "run_words", become_it)  # noqa: B010 - an attack is no interface
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
