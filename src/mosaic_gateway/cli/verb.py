"""What all verbs share: ``--home``, ``--json``, the envelope, the exit code, and the process that runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome, run_verb
from mosaic_gateway.cli.hints import name_home
from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.config import default_home, process_environment
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import read_machine_record

__all__ = ["home_option", "json_option", "verb"]


class _HomePath(click.Path):
    """A path that is not looked at: as root, nothing of a home is, before its owner was found."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        del param, ctx
        return Path(value)


home_option = click.option(
    "--home",
    type=_HomePath(path_type=Path, readable=False),
    metavar="DIR",
    help="The installation's directory. [MOSAIC_GATEWAY_HOME]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
Options = Mapping[str, Any]


def _always(_options: Options) -> bool:
    return True


def verb(
    name: str,
    *,
    passes_form: bool = False,
    at_home: Callable[[Options], bool] = _always,
    before: Callable[[Path, Options], int | None] | None = None,
) -> Callable[[Callable[..., Outcome]], Callable[..., None]]:
    """Turn ``function(home: Home, **options) -> Outcome`` into the body of a click command.

    With *passes_form* the function is given ``as_json`` too, for what it shows while it runs. *at_home* says of the
    options whether the verb works in a home: then, where root calls it, a process of the home's owner runs it.
    *before* runs in the caller's own process first, and ends the call if it returns an exit code.
    """

    def decorate(function: Callable[..., Outcome]) -> Callable[..., None]:
        @home_option
        @json_option
        @click.pass_context
        @wraps(function)
        def body(context: click.Context, /, home: Path | None, as_json: bool, **options: Any) -> None:  # noqa: FBT001 - click calls it
            invocation = context.find_object(Invocation)
            if invocation is None:
                raise TypeError("a verb runs below the root command")
            options = {key: _absolute(invocation, value) for key, value in options.items()}
            given = options if not passes_form else {**options, "as_json": as_json}
            verbs = invocation.verbs
            advise = partial(name_home, home=_advised(invocation, home), verbs=verbs) if home else None

            def run() -> Outcome | int:
                place = _place(invocation, home)
                code = before(place, given) if before is not None and invocation.broker is None else None
                if code is None and invocation.root_side is not None and at_home(options) and os.geteuid() == 0:
                    code = invocation.root_side.run(invocation, name, place, options)
                return code if code is not None else function(_home(invocation, home), **given)

            context.exit(run_verb(name, run, as_json=as_json, advise=advise))

        return body

    return decorate


def _absolute(invocation: Invocation, value: Any) -> Any:
    if isinstance(value, Path):
        with suppress(RuntimeError):  # an unknown ~user is no path of anybody's: it is taken as it stands
            return invocation.absolute(value)
    return value


def _advised(invocation: Invocation, given: Path) -> Path:
    """Return *given* as it can be named from anywhere."""
    with suppress(UsageError):
        return _place(invocation, given)
    return given


def _place(invocation: Invocation, given: Path | None) -> Path:
    """Return the home that is meant, as an absolute path."""
    if given is None and invocation.broker is not None and "home" in invocation.broker.facts:
        return Path(invocation.broker.facts["home"])
    try:
        return Path(os.path.normpath(invocation.absolute(given or default_home(process_environment()))))
    except RuntimeError as error:
        raise UsageError(f"there is no such directory: {given}", hint="Write the path out, without ~.") from error


def _home(invocation: Invocation, given: Path | None) -> Home:
    """Return the home with what is bound to it: the programs that root made for it, and root's broker."""
    broker = invocation.broker
    path = Path(broker.facts["home"]) if broker is not None and "home" in broker.facts else _place(invocation, given)
    planned = broker.facts.get("programs") if broker is not None else None
    record = read_machine_record(path)
    programs = record.programs if record is not None else Path(planned) if planned else None
    return Home(path, programs, broker)
