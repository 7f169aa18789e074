"""What only root can do for an installation, as requests that a verb sends to the process that root started.

A verb runs as the owner of its home. Where root started it, a broker in root's own process answers these requests
over a socket (`process.channel`); an ordinary user's verb has no broker, and does for itself what it may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

__all__ = ["NONE", "Broker", "Reply", "Request"]

#: The values of a request that needs none.
NONE: Mapping[str, Any] = MappingProxyType({})
#: The values of an answer, and the descriptors that came with it.
Reply = tuple[dict[str, Any], list[int]]


class Request(StrEnum):
    """The whole list. No path is taken from a request, and a name only if it is one that root has given."""

    #: Which program copies there are, and whether the one in use is of root's own package; copying, switching them.
    PROGRAM_STATE = "program-state"
    PLACE_PROGRAM = "place-program"
    SWITCH_PROGRAM = "switch-program"
    PLACE_POSTGRES = "place-postgres"
    PLACE_PGLITE = "place-pglite"
    REMOVE_PROGRAMS = "remove-programs"
    SET_ASIDE_PROGRAMS = "set-aside-programs"
    PUT_BACK_PROGRAMS = "put-back-programs"
    #: Remove what version 0.1.0 of root's command put into the home, and root alone can remove.
    REMOVE_FORMER_PROGRAMS = "remove-former-programs"
    #: Are the files of root's package as they were installed?
    CHECK_PACKAGE = "check-package"
    SERVICE_MANAGER = "service-manager"
    UNIT_STATE = "unit-state"
    WRITE_UNIT = "write-unit"
    RESTORE_UNIT = "restore-unit"
    REMOVE_UNIT = "remove-unit"
    ENABLE_UNIT = "enable-unit"
    START_UNIT = "start-unit"
    STOP_UNIT = "stop-unit"
    #: Start the program in use as the account, where the account cannot run its interpreter.
    LAUNCH = "launch"
    #: End a supervisor of the home that runs as root, as those of version 0.1.0 do.
    END_SUPERVISOR = "end-supervisor"
    #: Bind the recorded port, if it is below 1024, and pass the descriptor.
    BIND = "bind"
    #: Read a file, or make a file or directory, that root named on the command line.
    READ_INPUT = "read-input"
    OPEN_OUTPUT = "open-output"
    MAKE_DIRECTORY = "make-directory"
    KEEP_DIRECTORY = "keep-directory"
    #: Ask the person at root's terminal.
    PROMPT = "prompt"
    #: Give everything up that root has made: the installation was purged.
    LEAVE = "leave"


class Broker(Protocol):
    """Sends requests to root's process."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What root's process said of itself and its terminal when it started this one."""

    def ask(self, request: Request, values: Mapping[str, Any] = NONE, descriptors: Sequence[int] = ()) -> Reply:
        """Send *request* and return its answer. Raises the error that the broker answers with."""
