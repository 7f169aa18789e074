"""Runs root's command with a worker that the account has taken over: it sends what it likes over the socket.

Arguments: a program of the account's, then the words of root's command. The program gets the socket as descriptor 3.
"""

from __future__ import annotations

import sys

from mosaic_gateway.cli import worker_process
from mosaic_gateway_installer.cli import main

PYTHON = "/usr/bin/python3"
if __name__ == "__main__":
    program = sys.argv[1]
    del sys.argv[1]
    setattr(worker_process, "can_use_program", lambda _account: True)  # noqa: B010 - an attack is no interface
    setattr(worker_process, "this_program", lambda _module="": (PYTHON, "-I", program))  # noqa: B010 - as above
    sys.exit(main())
