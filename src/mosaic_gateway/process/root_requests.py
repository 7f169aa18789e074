"""The requests that a verb sends to root's process for operations that need root.

A verb runs as the owner of its home. If root called it, a broker in root's process handles these requests, which are
sent over a socket (`process.channel`). A verb that an ordinary user called has no broker and works without root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

__all__ = ["NONE", "Broker", "Reply", "Request"]

#: The values of a request without parameters.
NONE: Mapping[str, Any] = MappingProxyType({})
#: The values of an answer, and the descriptors sent with it.
Reply = tuple[dict[str, Any], list[int]]


class Request(StrEnum):
    """All requests. They contain no paths, and root's process accepts only names that it has assigned itself."""

    #: List program copies, and report whether the one in use is from root's package; create and switch program copies.
    PROGRAM_STATE = "program-state"
    PLACE_PROGRAM = "place-program"
    SWITCH_PROGRAM = "switch-program"
    PLACE_POSTGRES = "place-postgres"
    PLACE_PGLITE = "place-pglite"
    REMOVE_PROGRAMS = "remove-programs"
    SET_ASIDE_PROGRAMS = "set-aside-programs"
    PUT_BACK_PROGRAMS = "put-back-programs"
    #: Remove program files that root owns in the home, created by version 0.1.0.
    REMOVE_FORMER_PROGRAMS = "remove-former-programs"
    #: Verify the files of root's package against RECORD.
    CHECK_PACKAGE = "check-package"
    SERVICE_MANAGER = "service-manager"
    UNIT_STATE = "unit-state"
    WRITE_UNIT = "write-unit"
    RESTORE_UNIT = "restore-unit"
    REMOVE_UNIT = "remove-unit"
    ENABLE_UNIT = "enable-unit"
    START_UNIT = "start-unit"
    STOP_UNIT = "stop-unit"
    #: Start the program in use as the account, if the account cannot execute its interpreter.
    LAUNCH = "launch"
    #: End a supervisor of the home that runs as root, as version 0.1.0 did.
    END_SUPERVISOR = "end-supervisor"
    #: Bind the recorded port if it is below 1024, and send the descriptor of the socket.
    BIND = "bind"
    #: Read or create a file, or create a directory, that root named on the command line.
    READ_INPUT = "read-input"
    OPEN_OUTPUT = "open-output"
    MAKE_DIRECTORY = "make-directory"
    KEEP_DIRECTORY = "keep-directory"
    #: Prompt the user at root's terminal.
    PROMPT = "prompt"
    #: Remove everything that root created, after the installation was purged.
    LEAVE = "leave"


class Broker(Protocol):
    """Sends requests to root's process."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts about root's process and its terminal, sent when it started this process."""

    def ask(self, request: Request, values: Mapping[str, Any] = NONE, descriptors: Sequence[int] = ()) -> Reply:
        """Send *request* and return its answer. Raises the error that the broker reports."""
