"""What all verbs share: ``--home``, ``--json``, the envelope, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome, run_verb
from mosaic_gateway.cli.naming import name_home
from mosaic_gateway.config import Home, default_home, process_environment
from mosaic_gateway.errors import UsageError

__all__ = ["home_option", "json_option", "verb"]

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    help="The installation's directory. [MOSAIC_GATEWAY_HOME]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def verb(name: str, *, tells_form: bool = False) -> Callable[[Callable[..., Outcome]], Callable[..., None]]:
    """Turn ``function(home: Home, **options) -> Outcome`` into the body of a click command.

    With *tells_form* the function is given ``as_json`` too, for what it shows while it runs.
    """

    def decorate(function: Callable[..., Outcome]) -> Callable[..., None]:
        @home_option
        @json_option
        @click.pass_context
        @wraps(function)
        def body(context: click.Context, /, home: Path | None, as_json: bool, **options: Any) -> None:  # noqa: FBT001 - click calls it
            if tells_form:
                options["as_json"] = as_json
            root = context.find_root().command
            verbs = root.list_commands(context) if isinstance(root, click.Group) else ()
            advise = partial(name_home, home=_advised(home), verbs=verbs) if home else None
            context.exit(run_verb(name, lambda: function(_home(home), **options), as_json=as_json, advise=advise))

        return body

    return decorate


def _advised(given: Path) -> Path:
    """Return *given* as it can be named from anywhere."""
    with suppress(UsageError):
        return _home(given).path
    return given


def _home(given: Path | None) -> Home:
    try:
        return Home((given or default_home(process_environment())).expanduser().absolute())
    except RuntimeError as error:
        raise UsageError(f"there is no such directory: {given}", hint="Write the path out, without ~.") from error
