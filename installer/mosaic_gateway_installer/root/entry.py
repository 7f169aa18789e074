"""Entry point of a command that is run by root: find the home's owner and run the verb as that account.

Root's process inspects the path of the home and its own record, and nothing in the home. A verb on an account's home
runs as that account. If there is no home or no installation yet, a verb runs as an unprivileged user, read-only; so do
the checks before a new installation. After them root's process records what it will create, creates the account, the
empty home and the directory of programs, and runs the installation as the account. If that fails, root's process
removes what it created.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mosaic_gateway.cli import Invocation

__all__ = ["RootSide"]

#: Verbs that create an installation if there is none.
CREATING = frozenset({"install", "backup restore"})


class RootSide:
    """Runs a verb as the owner of its home, with a broker; implements ``mosaic_gateway.cli.invocation.RootSide``."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run *verb*; see ``mosaic_gateway.cli.invocation.RootSide.run``."""
        from mosaic_gateway.process import find_path
        from mosaic_gateway_installer.root.session import RootSession, unusable

        with ExitStack() as stack:
            try:
                found = stack.enter_context(find_path(home))
            except OSError as error:
                raise unusable(home, error) from error
            session = RootSession(invocation, verb, found, options)
            if found.owner and found.is_directory:
                return session.run_as(session.owner())
            if verb in CREATING and not options.get("dry_run"):
                return session.create()
            planned = session.plan() if verb in CREATING else None
            if verb == "uninstall" and found.status is None and session.complete_purge():
                return 0
            return session.run_read_only(planned)
