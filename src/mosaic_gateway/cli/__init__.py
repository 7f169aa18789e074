"""The command line of an installation; the installer adds its own verbs.

- The root command: `run`, `run_words`, `RUNTIME_VERBS`, `LazyGroup`.
- A verb: `verb` turns a function into one, `Outcome` is its result, `reporter` shows its progress, `Invocation` says
  how it was called, `Installation` is the installation that it works on.
- Files that the user names: `read_named_file`, `read_all`.
- Verbs that root calls: `owner_of`, `run_worker`; `preload` imports their modules first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.cli import preload
    from mosaic_gateway.cli.envelope import Outcome
    from mosaic_gateway.cli.input import (
        INHERITED_DESCRIPTOR,
        ConfirmationMissingError,
        NamedFileError,
        read_all,
        read_named_file,
    )
    from mosaic_gateway.cli.invocation import Invocation, Verbs, current_invocation
    from mosaic_gateway.cli.owner_process import OwnerOnly, owner_of, unprivileged
    from mosaic_gateway.cli.progress_reporter import Reporter, reporter
    from mosaic_gateway.cli.root import RUNTIME_VERBS, LazyGroup, run, run_words
    from mosaic_gateway.cli.verb_decorator import verb
    from mosaic_gateway.cli.worker_process import run_worker
else:
    __getattr__ = lazy_names(
        __name__,
        "preload",
        envelope="Outcome",
        input="ConfirmationMissingError INHERITED_DESCRIPTOR NamedFileError read_all read_named_file",
        invocation="Invocation Verbs current_invocation",
        owner_process="OwnerOnly owner_of unprivileged",
        progress_reporter="Reporter reporter",
        root="RUNTIME_VERBS LazyGroup run run_words",
        verb_decorator="verb",
        worker_process="run_worker",
    )

__all__ = [
    "INHERITED_DESCRIPTOR",
    "RUNTIME_VERBS",
    "ConfirmationMissingError",
    "Invocation",
    "LazyGroup",
    "NamedFileError",
    "Outcome",
    "OwnerOnly",
    "Reporter",
    "Verbs",
    "current_invocation",
    "owner_of",
    "preload",
    "read_all",
    "read_named_file",
    "reporter",
    "run",
    "run_words",
    "run_worker",
    "unprivileged",
    "verb",
]
