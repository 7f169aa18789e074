"""How much of the sweep runs, and the bundles of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Bundles = tuple[str, ...]
CheckFinalState = Callable[[str, Bundles], None]
PACKAGED: Bundles = ("gateway", "storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Number of kills: ``random_kills`` runners, ``server_kills`` servers, and runners at every ``step``-th message.

    For installations: ``verb_kills`` killed verbs, ``full_disks`` full disks, ``soak`` seconds of sign-ins with kills.
    """

    random_kills: int
    server_kills: int
    step: int
    verb_kills: int
    full_disks: int
    soak: float
