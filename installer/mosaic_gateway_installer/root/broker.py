"""The broker: answers, in the process that root started, requests that only root can carry out for one installation.

Theory of operation. The verb runs in a worker, as the account (`mosaic_gateway.cli.worker_process`). Everything that
root acts on here comes from root's record of the installation, from the command line that root typed, and from root's
own directories. No path is taken from a request; a name is accepted only if an entry of root's directory of programs
has it; no file in the home is opened. So a worker that an attacker controls gets only the requests that `grants` allows
for this verb, and only for its own installation (docs/explanation/security.md).
"""

from __future__ import annotations

import base64
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.named_file import INHERITED_DESCRIPTOR, NamedFileError, read_all
from mosaic_gateway.errors import InternalError, RefusedError
from mosaic_gateway.fs.files import open_regular
from mosaic_gateway.fs.record_fields import INSTANCE_ID, PROGRAM_NAME
from mosaic_gateway.gateway.control.program import read_program, this_program
from mosaic_gateway.hint import command, to_json
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import (
    DIRECTORY,
    MachineRecord,
    key_of,
    remove_machine_record,
    write_machine_record,
)
from mosaic_gateway.process.access import closed_part
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.ports import bind_listener
from mosaic_gateway.process.privileges import account_environment
from mosaic_gateway.process.root_requests import Reply, Request
from mosaic_gateway.process.trusted_path import find_path, open_directory
from mosaic_gateway_installer.root.former_programs import remove_roots_programs
from mosaic_gateway_installer.root.grants import Call
from mosaic_gateway_installer.root.handed_directory import HandedDirectory
from mosaic_gateway_installer.root.process_search import end_roots_supervisors, process_running_as
from mosaic_gateway_installer.root.program_directory import open_to_all, program_names
from mosaic_gateway_installer.root.service_account import account_is_free, remove_account

if TYPE_CHECKING:
    from mosaic_gateway.installation.service_record import Service
    from mosaic_gateway_installer.program_copy.home_programs import LocalPrograms
    from mosaic_gateway_installer.service.machine_unit import MachineUnit

__all__ = ["CACHES", "PROGRAMS", "RootBroker", "check_only_root_writes"]

CACHES = Path("/var/cache/mosaic-gateway")
PROGRAMS = Path("/usr/local/lib/mosaic-gateway")
MAX_LAUNCHES = 8
MAX_START_TIME = 3600.0  # seconds
#: Options whose files root opens for the worker.
INPUTS = frozenset({"password_file", "database_url_file"})
OUTPUT = "bundle"
DIRECTORY_OPTION = "directory"
INHERITED = ("ready-fd", "go-fd", "tether-fd", "listen-fd")


class NotGrantedError(RefusedError):
    """The request is not granted: not to this verb, or not by root's record of the installation."""

    code = "NOT_GRANTED"


class RootBroker:
    """Answers the requests of one verb on one home."""

    def __init__(self, record: MachineRecord | None, home: Path, account: Account, call: Call) -> None:
        """*record* is root's record of *home*, None if root did not install it; *call* is what root typed."""
        self.record = record
        self.account = account
        self.purged = False
        self._home = home
        self._call = call
        self._options = call.options
        self._new_directory: HandedDirectory | None = None
        self._launches = 0
        self._unit: MachineUnit | None = None
        self._answers: Mapping[Request, Callable[[Mapping[str, Any], Sequence[int]], Reply]] = {
            Request.PROGRAM_STATE: self._program_state,
            Request.PLACE_PROGRAM: self._place_program,
            Request.SWITCH_PROGRAM: self._switch_program,
            Request.PLACE_POSTGRES: self._place_postgres,
            Request.PLACE_PGLITE: self._place_pglite,
            Request.REMOVE_PROGRAMS: self._remove_programs,
            Request.SET_ASIDE_PROGRAMS: self._set_aside_programs,
            Request.PUT_BACK_PROGRAMS: self._put_back_programs,
            Request.REMOVE_FORMER_PROGRAMS: self._remove_former_programs,
            Request.CHECK_PACKAGE: self._check_package,
            Request.SERVICE_MANAGER: self._service_manager,
            Request.UNIT_STATE: self._unit_state,
            Request.WRITE_UNIT: self._write_unit,
            Request.RESTORE_UNIT: self._restore_unit,
            Request.REMOVE_UNIT: self._remove_unit,
            Request.ENABLE_UNIT: self._enable_unit,
            Request.START_UNIT: self._start_unit,
            Request.STOP_UNIT: self._stop_unit,
            Request.LAUNCH: self._launch,
            Request.END_SUPERVISOR: self._end_supervisor,
            Request.BIND: self._bind,
            Request.READ_INPUT: self._read_input,
            Request.OPEN_OUTPUT: self._open_output,
            Request.MAKE_DIRECTORY: self._make_directory,
            Request.KEEP_DIRECTORY: self._keep_directory,
            Request.PROMPT: self._prompt,
            Request.LEAVE: self._leave,
        }

    def answer(self, request: Request, values: Mapping[str, Any], descriptors: Sequence[int]) -> Reply:
        """Answer *request*. Raises MosaicError, OSError; ValueError, KeyError or TypeError if it is malformed."""
        if not self._call.grants(request):
            raise NotGrantedError(f"{self._call.verb}, with the options that root gave, is not granted {request}")
        return self._answers[request](values, descriptors)

    def known_account(self) -> Account | None:
        """Return the account of the record, None if it does not exist yet."""
        return account_named(self._granted().account)

    # The programs.

    def _granted(self) -> MachineRecord:
        if self.record is None:
            raise NotGrantedError(
                f"root did not install {self._home}, so root's process does nothing for it",
                hint=f"Run the command as its owner, {self.account.name}.",
            )
        return self.record

    def _programs(self) -> LocalPrograms:
        from mosaic_gateway_installer.program_copy.home_programs import LocalPrograms

        return LocalPrograms(Home(self._home, self._granted().programs))

    def _program_state(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs = self._programs()
        answers: dict[str, Callable[[], object]] = {
            "can_place": programs.can_place,
            "is_ours": programs.gateway_is_this_package,
            "found": programs.find_gateway,
        }
        return {"answer": answers[values["question"]]()}, []

    def _place_program(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        return {"name": self._programs().place_gateway(durable=values["durable"] is True)}, []

    def _switch_program(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs, name = self._programs(), values["name"]
        if name is not None and not (name in program_names(programs.home) and PROGRAM_NAME.fullmatch(name)):
            raise NotGrantedError(f"there is no program {name!r} in {programs.home.runtime}")
        programs.switch(name)
        self._link_command()
        return {}, []

    def _place_postgres(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        runtime = self._programs().place_postgres()
        for directory in runtime.bindir.parents:
            if directory.parent == self._granted().programs:
                open_to_all(directory)
        return {"version": runtime.version}, []

    def _place_pglite(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs = replace(self._programs(), search_path=self._search_path())
        if values["packages"] is True:
            programs.place_pglite(None)
        else:
            programs.place_scripts()
        for path in programs.home.runtime.iterdir():
            if path.name.startswith(("pglite-", "node-")) and path.is_dir():
                open_to_all(path)
        (programs.home.runtime / "node.json").chmod(0o644)
        self._make_cache()
        return {}, []

    def _search_path(self) -> str:
        """Return root's PATH without directories whose Node.js the account cannot run."""
        directories = process_environment().get("PATH", os.defpath).split(os.pathsep)
        return os.pathsep.join(path for path in directories if not self._is_closed(Path(path, "node")))

    def _is_closed(self, program: Path) -> bool:
        """Return whether the account cannot run *program*, by its path or with links resolved."""
        return any(closed_part(path, self.account) is not None for path in (program, program.resolve()))

    def _remove_programs(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs = self._programs()
        names = [name for name in program_names(programs.home) if name in values["names"]]
        _load_compiled()
        removed = programs.remove(names)
        if not program_names(programs.home):
            self.remove_program_directory()
        return {"removed": list(removed)}, []

    def _set_aside_programs(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs = self._programs()
        programs.set_aside([name for name in program_names(programs.home) if name in values["names"]])
        return {}, []

    def _put_back_programs(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        self._programs().put_back()
        return {}, []

    def _remove_former_programs(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        with find_path(self._home) as found:
            remove_roots_programs(found, values["names"])
        return {}, []

    def _check_package(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.checks.package import package_faults

        return package_faults(), []

    def _link_command(self) -> None:
        """Link the command of the default home into /usr/local/bin, unless a file of that name exists."""
        record = self._granted()
        link = record.command
        if link is None or link.exists() or link.is_symlink():
            return
        with suppress(OSError):  # optional: the command can be run by its full path
            link.symlink_to(record.programs / "bin" / "mosaic-gateway")

    def remove_program_directory(self) -> None:
        """Remove the directory of programs, and the command's link to it."""
        _load_compiled()
        record = self._granted()
        if record.command is not None and record.command.is_symlink():
            target = record.programs / "bin" / "mosaic-gateway"
            if Path(os.readlink(record.command)) == target:  # noqa: PTH115 - a text is compared
                record.command.unlink()
        shutil.rmtree(record.programs, ignore_errors=True)
        if record.programs.parent == PROGRAMS:
            with suppress(OSError):  # other installations may have programs in it
                PROGRAMS.rmdir()

    @property
    def cache(self) -> Path:
        """The account's cache directory, whose content can be created again."""
        return CACHES / key_of(self._home)

    def _make_cache(self) -> None:
        if self._granted().cache is not None:
            return
        with find_path(CACHES, roots=True) as found:
            os.close(open_directory(found))
        self._update_record(cache=self.cache)
        with suppress(FileExistsError):
            self.cache.mkdir(mode=0o700)
            os.chown(self.cache, self.account.uid, self.account.gid)

    # The unit.

    def _machine_unit(self) -> MachineUnit:
        from mosaic_gateway_installer.service.machine_unit import MachineUnit

        if self._unit is None:
            self._unit = MachineUnit(Home(self._home, self._granted().programs), self._granted())
        return self._unit

    def _service_manager(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.service.manager_selection import machine_manager

        if self.record is None:
            return {"manager": None, "reason": "root did not install it"}, []
        selected = machine_manager(self.account)
        return {"manager": selected.manager, "reason": selected.reason}, []

    def _unit_state(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.service.machine_unit import UnitRequest

        return {"in_place": self._machine_unit().is_in_place(UnitRequest.of(values))}, []

    def _write_unit(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.service.machine_unit import UnitRequest

        unit = self._machine_unit()
        service, notes = unit.write(UnitRequest.of(values), lambda planned: self._update_record(unit=planned.to_dict()))
        self._update_record(unit=service.to_dict())
        return {"notes": [to_json(note) for note in notes]}, []

    def _restore_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        before = self._machine_unit().restore()
        self._update_record(unit=before.to_dict() if before is not None else None)
        return {}, []

    def _remove_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        notes = self._machine_unit().remove()
        self._update_record(unit=None)
        return {"notes": notes}, []

    def _enable_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        self._machine_unit().enable()
        return {}, []

    def _service(self) -> Service:
        """Return the system unit of the home. Installations before 0.2.0 have no record of it, only the unit file."""
        from mosaic_gateway.installation.service_record import Service
        from mosaic_gateway_installer.service.machine_unit import unit_for

        if self.record is not None and self.record.unit is not None:
            return Service.from_dict(self.record.unit, DIRECTORY)
        service = unit_for(self._home)
        if service is None:
            raise NotGrantedError(f"the machine has no unit for {self._home}")
        return service

    def _start_unit(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway.gateway.control.service import start_service

        timeout = min(max(float(values["timeout"]), 1.0), MAX_START_TIME)
        start_service(Home(self._home), self._service(), timeout=timeout)
        return {}, []

    def _stop_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway.gateway.control.service import stop_service

        stop_service(Home(self._home), self._service())
        return {}, []

    # The gateway's process.

    def _launch(self, values: Mapping[str, Any], descriptors: Sequence[int]) -> Reply:
        """Start root's own copy of the program, which switches to the account before it accesses the home."""
        from mosaic_gateway.gateway.control.gateway_process import supervisor_words

        names = [name for name in values["descriptors"] if name in INHERITED]
        if len(names) != len(descriptors) or len(set(names)) != len(names):
            raise ValueError(values["descriptors"])
        words = self._program_words(values["name"])
        python = Path(words[0])
        if not self._is_closed(python):
            raise NotGrantedError(f"{self.account.name} can run {python} itself")
        self._launches += 1
        if self._launches > MAX_LAUNCHES:
            raise NotGrantedError(f"this verb has already started the gateway {MAX_LAUNCHES} times")
        inherited = dict(zip(names, descriptors, strict=True))
        options = supervisor_words(Home(self._home), inherited, issue_link=values["issue_link"] is True)
        # Python searches HOME for modules of the user, so HOME is root's until the process switches to the account.
        environ = {**account_environment(process_environment(), self.account), "HOME": pwd.getpwuid(0).pw_dir}
        subprocess.Popen(
            [*words, *options, "--account", self.account.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=tuple(descriptors), cwd="/", umask=0o077, start_new_session=True, env=environ,
        )  # fmt: skip
        return {}, []

    def _program_words(self, name: object) -> Sequence[str]:
        if name is None or self.record is None:
            return this_program()
        home = Home(self._home, self.record.programs)
        check_only_root_writes(self.record.programs)
        if name not in program_names(home) or not PROGRAM_NAME.fullmatch(str(name)):
            raise NotGrantedError(f"there is no program {name!r} in {home.runtime}")
        return read_program(home.runtime / str(name)).words

    def _end_supervisor(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        end_roots_supervisors(self._home)
        return {}, []

    def _bind(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        record, port = self._granted(), int(values["port"])
        if record.port is None or record.port != port:
            raise NotGrantedError(
                f"root's record does not allow this gateway to listen on port {port}",
                hint="Allow it, as root: " + command("install", "--port", str(port)),
            )
        listener = bind_listener(record.host or "127.0.0.1", record.port)
        return {}, [listener.detach()]

    # Files that root named on the command line, and root's terminal.

    def _read_input(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        option = values["option"]
        path = self._options.get(option) if option in INPUTS else None
        if not isinstance(path, Path):
            raise NotGrantedError(f"root gave no file with option {option!r}")
        inherited = INHERITED_DESCRIPTOR.fullmatch(str(path))
        try:
            if inherited is not None:
                with open(int(inherited[1] or 0), "rb", closefd=False) as stream:
                    content = read_all(stream, path)
            else:
                with find_path(path) as found, open_regular(found.name, dir_fd=found.parent) as stream:
                    content = read_all(stream, path)
        except OSError as error:
            raise NamedFileError(f"{path} cannot be read: {error.strerror}") from error
        return {"content": base64.b64encode(content).decode()}, []

    def _open_output(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        path = self._options.get(OUTPUT)
        if not isinstance(path, Path):
            raise NotGrantedError(f"root gave no file with option {OUTPUT!r}")
        with find_path(path) as found:
            if found.status is not None or len(found.missing) != 1:
                raise NamedFileError(
                    f"{path} cannot be written", hint="Give a file that does not exist, in an existing directory."
                )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return {}, [os.open(found.name, flags, 0o600, dir_fd=found.parent)]

    def _make_directory(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        """Create a directory for the account in the directory that root named, which only root may be able to change.

        The account becomes its owner.
        """
        path = self._options.get(DIRECTORY_OPTION)
        if not isinstance(path, Path) or self._new_directory is not None:
            raise NotGrantedError("root gave no directory, or one was already created in it")
        closed = closed_part(path, self.account)
        if closed is not None:
            raise NamedFileError(
                f"{self.account.name}, which writes the backup, has no access to {closed}",
                hint="Give a directory below one that every user can enter: --to DIR",
            )
        try:
            self._new_directory = created = HandedDirectory.create(path, self.account)
        except NotADirectoryError as error:
            raise NamedFileError(f"{path} is not a directory", hint="Give another one: --to DIR") from error
        return {"path": str(created.place / created.temporary), "name": created.name}, []

    def _keep_directory(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        if self._new_directory is None:
            raise NotGrantedError("no directory was created")
        created, self._new_directory = self._new_directory, None
        created.complete()
        return {"path": str(created.place / created.name)}, []

    def _prompt(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return {"text": self._prompted(values)}, []
        except (KeyboardInterrupt, click.Abort):
            raise InternalError("interrupted", hint="Run the command again to continue.") from None
        finally:
            signal.signal(signal.SIGINT, before)

    def _prompted(self, values: Mapping[str, Any]) -> str:
        if self._call.verb != "uninstall":
            return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
        identity = str(values["instance_id"])
        if not INSTANCE_ID.fullmatch(identity):
            raise ValueError(identity)
        click.echo(f"This removes all data and all backups of {self._home} for good.", err=True)
        return str(click.prompt(f"Type the instance id ({identity}) to go on", err=True))

    # Purge and the end of the session.

    def _leave(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        """Remove what root created for the installation, except the account, as which the worker still runs."""
        record = self._granted()
        if record.unit is not None:
            self._machine_unit().remove()
        self.remove_program_directory()
        if record.cache is not None:
            with suppress(OSError):  # not empty: its content is the account's to remove
                record.cache.rmdir()
                CACHES.rmdir()
        self.remove_home()
        self.purged = True
        used = process_running_as(self.account, but=os.getpid()) if record.account_created else None
        return {"account": record.account, "used_by": used}, []

    def remove_home(self) -> None:
        """Remove the home and the directories above it that root created for it, if they are empty."""
        for directory in reversed(self._granted().directories):
            with suppress(OSError), find_path(directory) as found:
                if found.is_directory:
                    os.rmdir(found.name, dir_fd=found.parent)

    def close(self, code: int) -> None:
        """End the session: discard an incomplete directory; after a purge remove account and record. Raises OSError."""
        if self._new_directory is not None:
            self._new_directory.discard()
        if self.record is not None and self.purged:
            if code == 0 and self.record.account_created and account_is_free(self.account, self._home):
                remove_account(self.record.account)
            remove_machine_record(self._home)

    def _update_record(self, **changes: Any) -> None:
        self.record = replace(self._granted(), **changes)
        write_machine_record(self.record)


def _load_compiled() -> None:
    """Load the compiled modules that root's process needs later: its own files may be among those to be removed."""
    import psutil  # noqa: F401


def check_only_root_writes(directory: Path) -> None:
    """Raise UnsafePathError unless only root can change *directory* and every directory above it."""
    with find_path(directory, roots=True):
        pass
