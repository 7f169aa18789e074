"""Which requests root's process answers, by the command line that root typed: no more than that verb can need. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosaic_gateway.process.root_requests import Request

__all__ = ["Call"]

LOOKING = frozenset(
    {
        Request.PROGRAM_STATE, Request.CHECK_PACKAGE, Request.SERVICE_MANAGER, Request.UNIT_STATE, Request.READ_INPUT,
    }
)  # fmt: skip
RUNNING = frozenset(
    {Request.START_UNIT, Request.STOP_UNIT, Request.LAUNCH, Request.END_SUPERVISOR, Request.BIND}
)  # fmt: skip
INSTALLING = RUNNING | {
    Request.PLACE_PROGRAM, Request.SWITCH_PROGRAM, Request.PLACE_POSTGRES, Request.PLACE_PGLITE,
    Request.REMOVE_PROGRAMS, Request.SET_ASIDE_PROGRAMS, Request.PUT_BACK_PROGRAMS, Request.REMOVE_FORMER_PROGRAMS,
    Request.WRITE_UNIT, Request.RESTORE_UNIT, Request.REMOVE_UNIT,
}  # fmt: skip
#: Verbs that take the recorded port, be it only for an instant to see that it is free.
BINDING = frozenset({"install", "upgrade", "doctor"})
#: What a verb is granted beyond `LOOKING`. One that changes a home also takes back what was killed before.
GRANTED: Mapping[str, frozenset[Request]] = {
    **dict.fromkeys(("install", "upgrade", "uninstall", "backup restore", "backup create"), INSTALLING),
    **dict.fromkeys(("start", "stop", "restart"), RUNNING),
    "doctor": RUNNING | {Request.ENABLE_UNIT, Request.REMOVE_FORMER_PROGRAMS},
    "backup verify": frozenset({Request.PLACE_POSTGRES}),
    "serve": frozenset({Request.BIND}),
    **dict.fromkeys(("auth users create", "auth users set-password", "bootstrap setup"), frozenset({Request.PROMPT})),
}


@dataclass(frozen=True, slots=True)
class Call:
    """The verb that root has run, and its ``options``. With ``read_only`` it is to change nothing."""

    verb: str
    options: Mapping[str, Any]
    read_only: bool = False

    def grants(self, request: Request) -> bool:
        """Return whether *request* is answered."""
        if request in LOOKING or (request is Request.BIND and self.verb in BINDING):
            return True
        if self.read_only or self.options.get("dry_run"):
            return False
        if self.verb == "doctor" and not self.options.get("fix"):
            return request is Request.OPEN_OUTPUT and self.options.get("bundle") is not None
        return request in GRANTED.get(self.verb, frozenset()) or request in self._by_option()

    def _by_option(self) -> frozenset[Request]:
        if self.verb == "doctor" and self.options.get("bundle") is not None:
            return frozenset({Request.OPEN_OUTPUT})
        if self.verb == "backup create" and self.options.get("directory") is not None:
            return frozenset({Request.MAKE_DIRECTORY, Request.KEEP_DIRECTORY})
        if self.verb == "uninstall" and self.options.get("purge") is not None:
            return frozenset({Request.LEAVE, Request.PROMPT})
        return frozenset()
