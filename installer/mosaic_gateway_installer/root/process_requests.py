"""The requests about the gateway's process: its start as the account, its end, and a port below 1024."""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.record_fields import PROGRAM_NAME
from mosaic_gateway.gateway.control import read_program, this_program
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home
from mosaic_gateway.process import Reply, Request, account_environment, bind_listener, find_path, process_environment
from mosaic_gateway_installer.root.authority import Answer, Authority, NotGrantedError
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.root.service_account import end_roots_supervisors

__all__ = ["ProcessRequests"]

MAX_LAUNCHES = 8
INHERITED = ("ready-fd", "go-fd", "tether-fd", "listen-fd")


class ProcessRequests:
    """Answers the requests about the gateway's process."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._launches = 0

    @property
    def answers(self) -> Mapping[Request, Answer]:
        """The requests, and what answers them."""
        return {
            Request.LAUNCH: self._launch,
            Request.END_SUPERVISOR: self._end_supervisor,
            Request.BIND: self._bind,
        }

    def _launch(self, values: Mapping[str, Any], descriptors: Sequence[int]) -> Reply:
        """Start root's own copy of the program, which switches to the account before it accesses the home."""
        from mosaic_gateway.gateway.control import supervisor_words

        names = [name for name in values["descriptors"] if name in INHERITED]
        if len(names) != len(descriptors) or len(set(names)) != len(names):
            raise ValueError(values["descriptors"])
        words = self._program_words(values["name"])
        python = Path(words[0])
        if not self._authority.is_closed(python):
            raise NotGrantedError(f"{self._authority.account.name} can run {python} itself")
        self._launches += 1
        if self._launches > MAX_LAUNCHES:
            raise NotGrantedError(f"this verb has already started the gateway {MAX_LAUNCHES} times")
        inherited = dict(zip(names, descriptors, strict=True))
        options = supervisor_words(Home(self._authority.path), inherited, issue_link=values["issue_link"] is True)
        # Python searches HOME for modules of the user, so HOME is root's until the process switches to the account.
        environ = {
            **account_environment(process_environment(), self._authority.account),
            "HOME": pwd.getpwuid(0).pw_dir,
        }
        subprocess.Popen(
            [*words, *options, "--account", self._authority.account.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=tuple(descriptors), cwd="/", umask=0o077, start_new_session=True, env=environ,
        )  # fmt: skip
        return {}, []

    def _program_words(self, name: object) -> Sequence[str]:
        if name is None or self._authority.record is None:
            return this_program()
        home = Home(self._authority.path, self._authority.record.programs)
        with find_path(self._authority.record.programs, roots=True):  # raises unless only root can change it
            pass
        if name not in program_names(home) or not PROGRAM_NAME.fullmatch(str(name)):
            raise NotGrantedError(f"there is no program {name!r} in {home.runtime}")
        return read_program(home.runtime / str(name)).words

    def _end_supervisor(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        end_roots_supervisors(self._authority.path)
        return {}, []

    def _bind(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        record, port = self._authority.granted(), int(values["port"])
        if record.port is None or record.port != port:
            raise NotGrantedError(
                f"root's record does not allow this gateway to listen on port {port}",
                hint="Allow it, as root: " + command("install", "--port", str(port)),
            )
        listener = bind_listener(record.host or "127.0.0.1", record.port)
        return {}, [listener.detach()]
