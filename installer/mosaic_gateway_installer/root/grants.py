"""The requests that root's process answers, by the command line that root typed: only those the verb needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosaic_gateway.process import Request

__all__ = ["Call"]

READING = frozenset(
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
#: Verbs that bind the recorded port, some only briefly to check that it is free.
BINDING = frozenset({"install", "upgrade", "doctor"})
#: What a verb is granted in addition to `READING`. A verb that changes a home also rolls back an interrupted change.
GRANTED: Mapping[str, frozenset[Request]] = {
    **dict.fromkeys(("install", "upgrade", "uninstall", "backup restore", "backup create"), INSTALLING),
    **dict.fromkeys(("start", "stop", "restart"), RUNNING),
    "doctor": RUNNING | {Request.ENABLE_UNIT, Request.REMOVE_FORMER_PROGRAMS},
    "backup verify": frozenset({Request.PLACE_POSTGRES}),
    "serve": frozenset({Request.BIND}),
    **dict.fromkeys(
        ("auth users create", "auth users set-password", "auth users remove", "bootstrap setup"),
        frozenset({Request.PROMPT}),
    ),
}
#: Verb → its option that names a file to create.
OUTPUTS: Mapping[str, str] = {"doctor": "bundle", "auth tokens create": "output"}


@dataclass(frozen=True, slots=True)
class Call:
    """The verb that root runs, and its ``options``. With ``read_only`` no request that changes anything is granted."""

    verb: str
    options: Mapping[str, Any]
    read_only: bool = False

    @property
    def output(self) -> Any:
        """The file that root named for the verb to create, None if there is none."""
        option = OUTPUTS.get(self.verb)
        return self.options.get(option) if option is not None else None

    def grants(self, request: Request) -> bool:
        """Return whether *request* is answered."""
        if request in READING or (request is Request.BIND and self.verb in BINDING):
            return True
        if self.read_only or self.options.get("dry_run"):
            return False
        if self.verb == "doctor" and not self.options.get("fix"):
            return request is Request.OPEN_OUTPUT and self.output is not None
        return request in GRANTED.get(self.verb, frozenset()) or request in self._by_option()

    def _by_option(self) -> frozenset[Request]:
        if self.output is not None:
            return frozenset({Request.OPEN_OUTPUT})
        if self.verb == "backup create" and self.options.get("directory") is not None:
            return frozenset({Request.MAKE_DIRECTORY, Request.KEEP_DIRECTORY})
        if self.verb == "uninstall" and self.options.get("purge") is not None:
            return frozenset({Request.LEAVE, Request.PROMPT})
        return frozenset()
