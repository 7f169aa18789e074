"""What root's process acts on for one verb: its record, the account, the home, and the command line that root typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.installation import Home, MachineRecord, write_machine_record
from mosaic_gateway.process import Account, Reply, closed_part
from mosaic_gateway_installer.root.grants import Call

__all__ = ["Answer", "Authority", "NotGrantedError"]

#: Answers one request. Raises MosaicError, OSError; ValueError, KeyError or TypeError if it is malformed.
Answer = Callable[[Mapping[str, Any], Sequence[int]], Reply]


class NotGrantedError(RefusedError):
    """The request is not granted: not to this verb, or not by root's record of the installation."""

    code = "NOT_GRANTED"


@dataclass(slots=True)
class Authority:
    """What is decided before the worker runs, and root's record, which requests change.

    ``record`` is that of the home at ``path``, None if root did not install it; ``account`` owns the home, or will;
    ``call`` is what root typed.
    """

    record: MachineRecord | None
    path: Path
    account: Account
    call: Call

    def granted(self) -> MachineRecord:
        """Return the record. Raises `NotGrantedError` if there is none."""
        if self.record is None:
            raise NotGrantedError(
                f"root did not install {self.path}, so root's process does nothing for it",
                hint=f"Run the command as its owner, {self.account.name}.",
            )
        return self.record

    def home(self) -> Home:
        """Return the home with root's directory of programs. Raises `NotGrantedError`."""
        return Home(self.path, self.granted().programs)

    def update_record(self, **changes: Any) -> None:
        """Change fields of the record, and write it. Raises `NotGrantedError`, OSError."""
        self.record = replace(self.granted(), **changes)
        write_machine_record(self.record)

    def is_closed(self, program: Path) -> bool:
        """Return whether the account cannot run *program*, by its path or with links resolved."""
        return any(closed_part(path, self.account) is not None for path in (program, program.resolve()))
