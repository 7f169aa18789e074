"""Is the machine ready? Every check runs, and every fault is reported at once, before any change."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.config import Config, EngineName, Home
from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.pglite.data import has_data
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway.errors import MosaicError, PreflightError, RefusedError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway.process.ports import bind_listener
from mosaic_gateway_installer import pglite_preflight
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt
from mosaic_gateway_installer.steps.home import UserAddMissingError
from mosaic_gateway_installer.steps.settings import has_secret

__all__ = ["NEEDED_SPACE", "check_home", "check_install"]

#: Bytes that a fresh installation takes: programs 30 MB, cluster 55 MB, reserve 64 MB, log of changes 64 MB.
NEEDED_SPACE = 220 * 1024 * 1024
#: What a shell does not take literally between double quotes.
UNQUOTABLE = re.compile(r'["$`\\\x00-\x1f\x7f]')
#: What may lie in a directory that is to become a home: what a killed first step leaves.
LEFT_BY_US = re.compile(r"\.lock|journal\.jsonl|\.receipt\.json\.[0-9a-f]{8}\.tmp")


class HomeUnusableError(PreflightError):
    """The home cannot be made or used where it was asked for."""

    code = "HOME_UNUSABLE"


class HomeModeError(PreflightError):
    """Others can read or write the home."""

    code = "HOME_MODE"


class HomeForeignError(RefusedError):
    """The directory holds something that no installation of ours put there."""

    code = "HOME_FOREIGN"


class EngineMismatchError(RefusedError):
    """The home's data belongs to another engine."""

    code = "ENGINE_MISMATCH"


class SecretLostError(RefusedError):
    """There is data, but the secret that belongs to it is gone."""

    code = "SECRET_LOST"


class PreflightFailedError(PreflightError):
    """Several checks failed; ``details`` lists each with its code, message and hint."""

    code = "PREFLIGHT_FAILED"


def check_home(home: Home) -> Receipt | None:
    """Check the place itself, and return its receipt; no other check makes sense where this fails.

    Raises `HomeUnusableError`, `HomeModeError`, `HomeForeignError` and `ReceiptError`.
    """
    try:
        _check_place(home.path)
    except OSError as error:
        raise HomeUnusableError(
            f"{home.path} cannot be used: {error.strerror}", hint="Choose another --home."
        ) from error
    receipt = read_receipt(home)
    if receipt is None and home.path.is_dir():
        foreign = sorted(entry.name for entry in home.path.iterdir() if not LEFT_BY_US.fullmatch(entry.name))
        if foreign:
            raise HomeForeignError(
                f"{home.path} is no installation, and it is not empty: {', '.join(foreign[:5])}",
                hint="Nothing was changed. Choose an empty or new directory with --home.",
            )
    return receipt


def check_install(config: Config, receipt: Receipt | None, account_name: str | None, *, make_account: bool) -> None:
    """Run all other checks.

    Raises the one error that was found, or `PreflightFailedError` with all of them.
    """
    faults: list[MosaicError] = []

    @contextmanager
    def collecting() -> Iterator[None]:
        try:
            yield
        except MosaicError as error:
            faults.append(error)

    checks: list[Callable[[], object]] = [
        _check_platform,
        lambda: _check_path(config),
        load_bundles,
        lambda: _check_retained(config, receipt),
        lambda: _check_space(config),
        lambda: _check_port(config),
        lambda: _check_account(config.home.path, account_name, make_account=make_account),
        lambda: _check_engine(config, account_name),
    ]
    for check in checks:
        with collecting():
            check()
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise _all_of(faults)


def _all_of(faults: list[MosaicError]) -> MosaicError:
    listed = "".join(f"\n  [{fault.code}] {fault.message}\n      {fault.hint}" for fault in faults)
    worst = max(faults, key=lambda fault: fault.exit_code)
    together = PreflightFailedError(
        f"{len(faults)} things are in the way; nothing was changed:{listed}",
        hint="Mend them, then run the command again.",
        details={"faults": [fault.to_dict() for fault in faults]},
    )
    together.exit_code = worst.exit_code
    return together


def _check_place(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        _check_parent(path)
        return
    if not path.is_dir():
        raise HomeUnusableError(f"{path} is not a directory", hint="Choose another --home.")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise HomeUnusableError(f"{path} cannot be written to by this user", hint="Choose another --home.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise HomeModeError(
            f"{path} is open to other users (mode {mode:04o})", hint=f"Close it: chmod 700 {shlex.quote(str(path))}"
        )


def _check_parent(path: Path) -> None:
    parent = next(candidate for candidate in path.parents if candidate.exists())
    if not parent.is_dir():
        raise HomeUnusableError(f"{parent} is not a directory", hint="Choose another --home.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise HomeUnusableError(
            f"{path} cannot be made: {parent} cannot be written to by this user",
            hint="Choose another --home (MOSAIC_GATEWAY_HOME), or run as another user.",
        )


def _check_platform() -> None:
    if sys.platform not in {"linux", "darwin"}:
        raise PreflightError(f"{sys.platform} is not supported", hint="Use Linux or macOS.")


def _check_path(config: Config) -> None:
    """initdb gives the paths of its programs to a shell in double quotes (find_other_exec in src/common/exec.c)."""
    if config.engine is EngineName.POSTGRES and UNQUOTABLE.search(str(config.home.path)):
        raise HomeUnusableError(
            f"PostgreSQL cannot work below {str(config.home.path)!r}",
            hint='Choose a --home without any of " $ ` \\ and control characters.',
        )


def _check_retained(config: Config, receipt: Receipt | None) -> None:
    """Data that is there already must fit: same engine, secret present."""
    if receipt is None:
        return
    if receipt.engine != config.engine:
        raise EngineMismatchError(
            f"{config.home.path} holds data of the engine {receipt.engine}, not {config.engine}",
            hint=f"Leave --engine out, or choose another --home. The data stays with {receipt.engine}.",
        )
    has_data = _has_database(config.home) or receipt.state is not ReceiptState.INSTALLING
    if has_data and config.auth_secret is None and not has_secret(config.home):
        raise SecretLostError(
            f"{config.home.path} holds data, but its secret {config.home.auth_secret} is gone",
            hint="Restore the file from a backup, or give the old value in BETTER_AUTH_SECRET. "
            "A new secret is never made over old data.",
        )


def _has_database(home: Home) -> bool:
    return cluster_of(home) is not None or has_data(home)


def _check_space(config: Config) -> None:
    if _has_database(config.home) or config.engine is EngineName.SERVER:
        return
    needed = NEEDED_SPACE if config.engine is EngineName.POSTGRES else pglite_preflight.NEEDED_SPACE
    place = next(path for path in (config.home.path, *config.home.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DiskFullError(
            f"{place} has {free // 1024**2} MB free; a new installation needs {needed // 1024**2} MB",
            hint="Make room, or choose another --home.",
            details={"free_bytes": free, "needed_bytes": needed},
        )


def _check_port(config: Config) -> None:
    holder = holder_of(config.home.gateway_lock)
    if holder is not None and holder.facts.get("local_url", config.local_url) == config.local_url:
        return  # our own gateway has it, or is about to
    with bind_listener(config.host, config.port):
        return


def _check_account(home: Path, name: str | None, *, make_account: bool) -> None:
    if make_account and shutil.which("useradd") is None:
        raise UserAddMissingError(
            "this machine has no useradd to make a service account with", hint="Name an existing user with --run-as."
        )
    if name is None:
        return
    account = account_named(name)
    for parent in home.parents:
        if parent.exists() and not _may_pass(parent, account):
            raise HomeUnusableError(
                f"{name} may not enter {parent}, so PostgreSQL could not reach {home}",
                hint="Choose a --home below a directory that is open to all, such as /var/lib.",
            )


def _may_pass(directory: Path, account: Account | None) -> bool:
    status = directory.stat()
    if account is not None and status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if account is not None and status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _check_engine(config: Config, account_name: str | None) -> None:
    if config.engine is EngineName.SERVER:
        from mosaic_gateway.engines.open import engine_for

        engine = engine_for(config, account=None)
        engine.start()
        engine.verify()
        engine.stop()
        return
    if config.engine is EngineName.PGLITE:
        pglite_preflight.check_pglite(config, account_name)
        return
    from mosaic_gateway.engines.postgres.runtime import install_runtime, locate_wheel

    if config.postgres_bin is None:
        locate_wheel()
    else:  # nothing is copied, only examined
        account = account_named(account_name) if account_name is not None else None
        install_runtime(config.home, account=account, postgres_bin=config.postgres_bin)
