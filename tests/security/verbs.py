"""The verbs that root runs on an account's home."""

from __future__ import annotations

from dataclasses import dataclass

from tests.security.installation import Installation
from tests.security.machine import HOMES, LIMIT, Ended

__all__ = ["BUNDLE", "CHANGING", "VERBS", "Verb"]

BUNDLE = f"{HOMES}/bundle.tar.gz"
#: Sends SIGINT, as Ctrl-C does, after the number of seconds that follows.
FOREGROUND = ("timeout", "--foreground", "--preserve-status", "--signal=INT")


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb with its options; ``{id}``, ``{backup}`` and ``{bundle}`` are replaced by those of an installation.

    With ``running`` the gateway is started before.
    """

    text: str
    running: bool = False
    changes: bool = False

    def words(self, installation: Installation) -> tuple[str, ...]:
        """Return the words of the command line."""
        values = {"id": installation.identity, "backup": installation.backup, "bundle": BUNDLE}
        return tuple(word.format(**values) for word in self.text.split())

    def run(
        self,
        installation: Installation,
        words: tuple[str, ...],
        prefix: tuple[str, ...] = (),
        *,
        limit: float = LIMIT,
        foreground: float = 4.0,
    ) -> Ended:
        """Run it with *words*, which `words` returned before anything was planted.

        `serve` is interrupted after *foreground* seconds.
        """
        return installation.verb(*words, prefix=(*prefix, *self.around(foreground)), limit=limit)

    def around(self, foreground: float = 4.0) -> tuple[str, ...]:
        """Return the words before the command that interrupt `serve`, which would not exit by itself."""
        return (*FOREGROUND, str(foreground)) if self.text == "serve" else ()


VERBS = (
    Verb("install --no-service", changes=True),
    Verb("install --dry-run"),
    Verb("upgrade", running=True, changes=True),
    Verb("upgrade --dry-run"),
    Verb("upgrade --abort", changes=True),
    Verb("upgrade --revert", changes=True),
    Verb("uninstall", running=True, changes=True),
    Verb("uninstall --purge={id}", changes=True),
    Verb("uninstall --dry-run"),
    Verb("doctor"),
    Verb("doctor --fix", changes=True),
    Verb("doctor --bundle {bundle}", running=True),
    Verb("backup create", running=True, changes=True),
    Verb("backup list"),
    Verb("backup verify {backup}", changes=True),
    Verb("backup restore --yes {backup}", changes=True),
    Verb("backup prune --keep 1", changes=True),
    Verb("start", changes=True),
    Verb("stop", running=True, changes=True),
    Verb("restart", running=True, changes=True),
    Verb("status", running=True),
    Verb("logs"),
    Verb("storage status"),
    Verb("storage plan"),
    Verb("storage migrate", changes=True),
    Verb("bootstrap status"),
    Verb("bootstrap link"),
    Verb("auth users list", running=True),
    Verb("auth sessions list"),
    Verb("auth tokens list"),
    Verb("config show"),
    Verb("serve", changes=True),
)
CHANGING = tuple(verb for verb in VERBS if verb.changes)
