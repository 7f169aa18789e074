"""Root's side of the command: whose home it is, what root makes for it first, and the process that runs the verb.

Root looks at the path of the home, at its own record, and at nothing in the home. A verb on an account's home runs as
that account; where there is no home yet, or no installation, as a user without rights, who can look and change nothing.
Before a new installation its checks run so; then root notes what it is about to make, makes the account, the empty home
and the directory of programs, and lets the account install. What root has made goes again if that fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mosaic_gateway.cli.invocation import Invocation

__all__ = ["RootSide"]

#: Verbs that make an installation where there is none.
CREATING = frozenset({"install", "backup restore"})


class RootSide:
    """Runs a verb as the owner of its home, with a broker at its side; implements ``RootSide``."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run it; see ``mosaic_gateway.cli.invocation.RootSide.run``."""
        from mosaic_gateway.process.trusted_path import find_path
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
            if verb == "uninstall" and found.status is None and session.forget():
                return 0
            return session.look(planned)
