"""The requests about root's copy of the programs, the account's cache, and the command's link."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mosaic_gateway.fs.record_fields import PROGRAM_NAME
from mosaic_gateway.installation import key_of
from mosaic_gateway.process import Reply, Request, find_path, open_directory, process_environment
from mosaic_gateway_installer.root.authority import Answer, Authority, NotGrantedError
from mosaic_gateway_installer.root.program_directory import open_to_all, program_names, remove_roots_programs

if TYPE_CHECKING:
    from mosaic_gateway_installer.program_copy.home_programs import LocalPrograms

__all__ = ["PROGRAMS", "ProgramRequests"]

CACHES = Path("/var/cache/mosaic-gateway")
PROGRAMS = Path("/usr/local/lib/mosaic-gateway")


class ProgramRequests:
    """Answers the requests about programs. A name is accepted only if an entry of root's directory has it."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    @property
    def answers(self) -> Mapping[Request, Answer]:
        """The requests, and what answers them."""
        return {
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
        }

    def _programs(self) -> LocalPrograms:
        from mosaic_gateway_installer.program_copy.home_programs import LocalPrograms

        return LocalPrograms(self._authority.home())

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
            if directory.parent == self._authority.granted().programs:
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
        return os.pathsep.join(path for path in directories if not self._authority.is_closed(Path(path, "node")))

    def _remove_programs(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs = self._programs()
        names = [name for name in program_names(programs.home) if name in values["names"]]
        _load_compiled()
        removed = programs.remove(names)
        if not program_names(programs.home):
            self.remove_directory()
        return {"removed": list(removed)}, []

    def _set_aside_programs(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        programs = self._programs()
        programs.set_aside([name for name in program_names(programs.home) if name in values["names"]])
        return {}, []

    def _put_back_programs(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        self._programs().put_back()
        return {}, []

    def _remove_former_programs(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        with find_path(self._authority.path) as found:
            remove_roots_programs(found, values["names"])
        return {}, []

    def _check_package(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.checks.package import package_faults

        return package_faults(), []

    def _link_command(self) -> None:
        """Link the command of the default home into /usr/local/bin, unless a file of that name exists."""
        record = self._authority.granted()
        link = record.command
        if link is None or link.exists() or link.is_symlink():
            return
        with suppress(OSError):  # optional: the command can be run by its full path
            link.symlink_to(record.programs / "bin" / "mosaic-gateway")

    def remove_directory(self) -> None:
        """Remove the directory of programs, and the command's link to it."""
        _load_compiled()
        record = self._authority.granted()
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
        return CACHES / key_of(self._authority.path)

    def _make_cache(self) -> None:
        if self._authority.granted().cache is not None:
            return
        with find_path(CACHES, roots=True) as found:
            os.close(open_directory(found))
        self._authority.update_record(cache=self.cache)
        with suppress(FileExistsError):
            self.cache.mkdir(mode=0o700)
            os.chown(self.cache, self._authority.account.uid, self._authority.account.gid)

    def remove_cache(self) -> None:
        """Remove the account's cache directory, if it is empty: its content is the account's to remove."""
        cache = self._authority.granted().cache
        if cache is not None:
            with suppress(OSError):  # not empty
                cache.rmdir()
                CACHES.rmdir()


def _load_compiled() -> None:
    """Load the compiled modules that root's process needs later: its own files may be among those to be removed."""
    import psutil  # noqa: F401
