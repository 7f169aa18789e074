"""The decorator of all verbs: ``--home``, ``--json``, the envelope, the exit code, and the process that runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome, run_verb
from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.config import default_home
from mosaic_gateway.errors import UsageError
from mosaic_gateway.hint import Caller
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import read_machine_record
from mosaic_gateway.process.environment import process_environment

__all__ = ["Options", "home_option", "json_option", "verb"]


class _HomePath(click.Path):
    """A path that is converted without file system access: root must not access a home before its owner is known."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        del param, ctx
        return Path(value)


home_option = click.option(
    "--home",
    type=_HomePath(path_type=Path, readable=False),
    metavar="DIR",
    help="Directory of the installation. [env: MOSAIC_GATEWAY_HOME]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
#: The options of a verb except ``--home`` and ``--json``.
Options = Mapping[str, Any]


def _always(_options: Options) -> bool:
    return True


def _no_target(_home: Path | None, _options: Options) -> tuple[str, ...]:
    return ()


def verb(
    name: str,
    *,
    passes_as_json: bool = False,
    at_home: Callable[[Options], bool] = _always,
    target: Callable[[Path | None, Options], tuple[str, ...]] = _no_target,
    before: Callable[[Path, Options], int | None] | None = None,
) -> Callable[[Callable[..., Outcome]], Callable[..., None]]:
    """Turn ``function(home: Home, **options) -> Outcome`` into the body of a click command.

    With *passes_as_json* the function receives ``as_json`` as well, for its progress output. *at_home* returns whether
    the verb works in a home with the given options; if root calls such a verb, a process of the home's owner runs it.
    *before* runs first, in the caller's own process; if it returns an exit code, the verb ends with it.
    *target* returns `Caller.target` for the home given by ``--home`` and the options.
    """

    def decorate(function: Callable[..., Outcome]) -> Callable[..., None]:
        @home_option
        @json_option
        @click.pass_context
        @wraps(function)
        def body(context: click.Context, /, home: Path | None, as_json: bool, **options: Any) -> None:  # noqa: FBT001 - click calls it
            invocation = context.find_object(Invocation)
            if invocation is None:
                raise TypeError("a verb must be called through the root command")
            options = {key: _absolute_option(invocation, value) for key, value in options.items()}
            given = options if not passes_as_json else {**options, "as_json": as_json}
            named = _absolute_home(invocation, home) if home else None
            caller = Caller(program=invocation.program, home=named, target=target(named, options))

            def run() -> Outcome | int:
                path = _home_path(invocation, home)
                code = before(path, given) if before is not None and invocation.broker is None else None
                if code is None and invocation.root_side is not None and at_home(options) and os.geteuid() == 0:
                    code = invocation.root_side.run(invocation, name, path, options)
                return code if code is not None else function(_home(invocation, home), **given)

            context.exit(run_verb(name, run, as_json=as_json, caller=caller))

        return body

    return decorate


def _absolute_option(invocation: Invocation, value: Any) -> Any:
    if isinstance(value, Path):
        with suppress(RuntimeError):  # unknown ~user: the path is used literally
            return invocation.absolute(value)
    return value


def _absolute_home(invocation: Invocation, given: Path) -> Path:
    """Return *given* as an absolute path, or unchanged if ``~user`` is unknown."""
    with suppress(UsageError):
        return _home_path(invocation, given)
    return given


def _home_path(invocation: Invocation, given: Path | None) -> Path:
    """Return the path of the home to work on, as an absolute path."""
    if given is None and invocation.broker is not None and "home" in invocation.broker.facts:
        return Path(invocation.broker.facts["home"])
    try:
        return Path(os.path.normpath(invocation.absolute(given or default_home(process_environment()))))
    except RuntimeError as error:
        raise UsageError(f"no such directory: {given}", hint="Give the path without ~.") from error


def _home(invocation: Invocation, given: Path | None) -> Home:
    """Return the home with its directory of programs, if root created one, and with root's broker."""
    broker = invocation.broker
    path = (
        Path(broker.facts["home"]) if broker is not None and "home" in broker.facts else _home_path(invocation, given)
    )
    planned = broker.facts.get("programs") if broker is not None else None
    record = read_machine_record(path)
    programs = record.programs if record is not None else Path(planned) if planned else None
    return Home(path, programs, broker)
