"""The broker: answers, in the process that root started, requests that only root can carry out for one installation.

Theory of operation. The verb runs in a worker, as the account (`mosaic_gateway.cli.worker_process`). Everything that
root acts on here comes from root's record of the installation, from the command line that root typed, and from root's
own directories (`authority`). No path is taken from a request; a name is accepted only if an entry of root's directory
of programs has it; no file in the home is opened. So a worker that an attacker controls gets only the requests that
`grants` allows for this verb, and only for its own installation (docs/explanation/security.md). Each group of requests
has its module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mosaic_gateway.installation import MachineRecord, remove_machine_record
from mosaic_gateway.process import Account, Reply, Request, account_named, find_path
from mosaic_gateway_installer.root.authority import Answer, Authority, NotGrantedError
from mosaic_gateway_installer.root.command_line_requests import CommandLineRequests
from mosaic_gateway_installer.root.grants import Call
from mosaic_gateway_installer.root.process_requests import ProcessRequests
from mosaic_gateway_installer.root.program_requests import ProgramRequests
from mosaic_gateway_installer.root.service_account import account_is_free, process_running_as, remove_account
from mosaic_gateway_installer.root.unit_requests import UnitRequests

__all__ = ["RootBroker"]


class RootBroker:
    """Answers the requests of one verb on one home."""

    def __init__(self, record: MachineRecord | None, home: Path, account: Account, call: Call) -> None:
        """*record* is root's record of *home*, None if root did not install it; *call* is what root typed."""
        self._authority = Authority(record, home, account, call)
        self.purged = False
        self.programs = ProgramRequests(self._authority)
        self._units = UnitRequests(self._authority)
        self._command_line = CommandLineRequests(self._authority)
        self._answers: Mapping[Request, Answer] = {
            **self.programs.answers,
            **self._units.answers,
            **ProcessRequests(self._authority).answers,
            **self._command_line.answers,
            Request.LEAVE: self._leave,
        }

    @property
    def record(self) -> MachineRecord | None:
        """Root's record of the home, with the changes that requests have led to."""
        return self._authority.record

    def answer(self, request: Request, values: Mapping[str, Any], descriptors: Sequence[int]) -> Reply:
        """Answer *request*. Raises MosaicError, OSError; ValueError, KeyError or TypeError if it is malformed."""
        if not self._authority.call.grants(request):
            raise NotGrantedError(
                f"{self._authority.call.verb}, with the options that root gave, is not granted {request}"
            )
        return self._answers[request](values, descriptors)

    def known_account(self) -> Account | None:
        """Return the account of the record, None if it does not exist yet."""
        return account_named(self._authority.granted().account)

    def _leave(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        """Remove what root created for the installation, except the account, as which the worker still runs."""
        record = self._authority.granted()
        if record.unit is not None:
            self._units.machine_unit().remove()
        self.programs.remove_directory()
        self.programs.remove_cache()
        self.remove_home()
        self.purged = True
        used = process_running_as(self._authority.account, but=os.getpid()) if record.account_created else None
        return {"account": record.account, "used_by": used}, []

    def remove_home(self) -> None:
        """Remove the home and the directories above it that root created for it, if they are empty."""
        for directory in reversed(self._authority.granted().directories):
            with suppress(OSError), find_path(directory) as found:
                if found.is_directory:
                    os.rmdir(found.name, dir_fd=found.parent)

    def close(self, code: int) -> None:
        """End the session: discard an incomplete directory; after a purge remove account and record. Raises OSError."""
        self._command_line.close()
        record, home = self.record, self._authority.path
        if record is not None and self.purged:
            if code == 0 and record.account_created and account_is_free(self._authority.account, home):
                remove_account(record.account)
            remove_machine_record(home)
