"""What a process that is still root's does with the paths of a home, read from the output of strace.

``strace -f -y -e trace=%file,%process,%creds,connect,bind -o FILE`` writes one line for each system call::

    41 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>
    41 clone(child_stack=NULL, flags=CLONE_VFORK|SIGCHLD <unfinished ...>
    42 setresuid(998, 998, 998) = 0
    41 <... clone resumed>) = 42

Theory of operation. A thread is root's until all three of its user ids are others' (setresuid and its kin); a child has
the ids that its parent has at the call which makes it, whose return may be written after the child's first line. Each
quoted text among a call's arguments is a path, and relative to the descriptor before it (``-y`` shows where that
leads) or to the working directory.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

__all__ = ["STRACE", "Call", "Ids", "Touch", "calls", "touches", "violations"]

#: With -D the traced program stays the child of who starts it, whose end does not wait for all others.
STRACE = (
    "strace", "-D", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "4096",
    "-e", "trace=%file,%process,%creds,fchdir,fchown,fchmod,connect,bind",
)  # fmt: skip
LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
WHOLE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)")
UNFINISHED = re.compile(r"(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\) += (?P<result>.*)")
#: A quoted text, or a descriptor with the path that it leads to, or a word, each with nothing but commas between.
TOKEN = re.compile(
    r'"(?P<text>(?:[^"\\]|\\.)*)"(?:\.\.\.)?|(?:AT_FDCWD|\d+)<(?P<directory>(?:[^>\\]|\\.)*)>|(?P<word>[^,"<>\s][^,"<>]*)'
)
ESCAPE = re.compile(rb"\\(x[0-9a-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
NAMED = {"n": b"\n", "t": b"\t", "r": b"\r", "v": b"\v", "f": b"\f"}
#: Calls that make a child; the first that has no thread of its own in it is what a fork is.
MAKING = {"clone", "clone3", "fork", "vfork"}
#: Which arguments set the real, the effective and the saved user id.
SETTING = {"setresuid": (0, 1, 2), "setreuid": (0, 1, None), "setuid": (0, 0, 0), "seteuid": (None, 0, None)}
#: The first text is what a link says, not a path that the call goes to.
LINKING = {"symlink", "symlinkat"}
#: What the broker may do with the home itself, named by its last part relative to the descriptor of its parent.
OF_THE_HOME = {"mkdirat", "fchownat", "fchown", "fchmod", "unlinkat"}
LOOKING = {"newfstatat", "statx", "fstatat64", "fstat", "faccessat2"}
FAILED = re.compile(r"-1 E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call of a thread; ``begun`` and ``ended`` are the numbers of its lines."""

    pid: int
    name: str
    arguments: str
    result: str
    begun: int
    ended: int

    @property
    def failed(self) -> bool:
        """Whether it did nothing."""
        return FAILED.match(self.result) is not None


@dataclass(frozen=True, slots=True)
class Ids:
    """The real, effective and saved user id of a thread."""

    real: int
    effective: int
    saved: int

    @property
    def is_root(self) -> bool:
        """Whether it can act as root, now or after another call."""
        return 0 in {self.real, self.effective, self.saved}


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A path that a call of a thread with the user ids ``ids`` names; ``relative`` if by a descriptor of its parent."""

    call: Call
    path: str
    relative: bool
    ids: Ids


@dataclass(slots=True)
class _Threads:
    """Who each thread is, and where it stands."""

    first: Ids
    parents: Mapping[int, int]
    ids: dict[int, Ids] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)

    def know(self, pid: int) -> None:
        """Take over from the parent what a new thread has."""
        if pid in self.ids:
            return
        parent = self.parents.get(pid)
        if parent is not None:
            self.know(parent)
        self.ids[pid] = self.first if parent is None else self.ids[parent]
        self.places[pid] = "/" if parent is None else self.places[parent]

    def follow(self, call: Call) -> None:
        """Note what *call* changes."""
        if call.failed:
            return
        if call.name in SETTING:
            self.ids[call.pid] = _changed(self.ids[call.pid], call)
        elif call.name in {"chdir", "fchdir"}:
            found = [path for path, _ in _paths(call, self.places[call.pid])]
            if found:
                self.places[call.pid] = found[0]


def calls(lines: Iterable[str]) -> list[Call]:
    """Return the calls of an strace, in the order in which they ended; what a kill has cut off ended never."""
    begun: dict[int, tuple[int, str, str]] = {}
    found: list[Call] = []
    number = 0
    for number, line in enumerate(lines):
        split = LINE.match(line)
        if split is None:
            continue
        pid, rest = int(split["pid"]), split["rest"]
        if match := UNFINISHED.fullmatch(rest):
            begun[pid] = (number, match["name"], match["arguments"])
        elif match := RESUMED.fullmatch(rest):
            start, name, arguments = begun.pop(pid, (number, match["name"], ""))
            found.append(_call(pid, name, arguments + match["arguments"], match["result"], start, number))
        elif match := WHOLE.fullmatch(rest):
            found.append(_call(pid, match["name"], match["arguments"], match["result"], number, number))
    for pid, (start, name, arguments) in begun.items():
        found.append(_call(pid, name, arguments, "?", start, number + 1))
    return found


def _call(pid: int, name: str, arguments: str, result: str, begun: int, ended: int) -> Call:
    return Call(pid=pid, name=name, arguments=arguments, result=result, begun=begun, ended=ended)


def touches(lines: Iterable[str], first: Ids = Ids(0, 0, 0)) -> Iterator[Touch]:
    """Yield every path that a call names, with who called; the first thread has the ids *first*.

    A call counts as made when it began, and changes who the thread is when it ended.
    """
    found = calls(lines)
    parents = {
        int(call.result.split("<")[0].split()[0]): call.pid
        for call in found
        if call.name in MAKING and re.match(r"[1-9]\d*", call.result)
    }
    threads = _Threads(first, parents)
    events = sorted(
        [(call.begun, 0, index) for index, call in enumerate(found)]
        + [(call.ended, 1, index) for index, call in enumerate(found)]
    )
    for _, is_end, index in events:
        call = found[index]
        threads.know(call.pid)
        if is_end:
            threads.follow(call)
            continue
        for path, relative in _paths(call, threads.places[call.pid]):
            yield Touch(call=call, path=path, relative=relative, ids=threads.ids[call.pid])


def violations(lines: Iterable[str], home: str) -> list[str]:
    """Return what a thread of root's did with *home* or below it, but for what finds its owner, or makes it anew.

    Allowed is, with the home itself and relative to a descriptor of its parent: to open it without following links and
    without reading it, to ask for its status, to make it, to give it away, and to remove it if it is empty.
    """
    return [
        f"{touch.call.name}({touch.call.arguments}) = {touch.call.result}"
        for touch in touches(lines)
        if touch.ids.is_root and _is_below(touch.path, home) and not _is_allowed(touch, home)
    ]


def _is_allowed(touch: Touch, home: str) -> bool:
    name, arguments = touch.call.name, touch.call.arguments
    if touch.path != home or not touch.relative:
        return False
    if name in {"openat", "openat2"}:
        return "O_NOFOLLOW" in arguments and "O_DIRECTORY" in arguments
    if name in LOOKING:
        return "AT_SYMLINK_NOFOLLOW" in arguments or "AT_EMPTY_PATH" in arguments or name == "fstat"
    if name == "unlinkat":
        return "AT_REMOVEDIR" in arguments
    if name == "fchownat":
        return "AT_SYMLINK_NOFOLLOW" in arguments or "AT_EMPTY_PATH" in arguments
    return name in OF_THE_HOME


def _is_below(path: str, home: str) -> bool:
    return path == home or path.startswith(f"{home}/")


def _paths(call: Call, place: str) -> Iterator[tuple[str, bool]]:
    """Yield each path among the arguments, and whether it was relative to a descriptor."""
    if call.name in {"connect", "bind"}:
        match = re.search(r'sun_path="((?:[^"\\]|\\.)*)"', call.arguments)
        if match is not None:
            yield _joined(place, _unquoted(match[1])), False
        return
    directory: str | None = None
    texts = 0
    for token in TOKEN.finditer(_top(call.arguments)):
        if token["directory"] is not None:
            directory = _unquoted(token["directory"])
            if call.name in {"fchdir", "fchown", "fchmod", "fstat"}:
                yield posixpath.normpath(directory), True
        elif token["text"] is not None:
            texts += 1
            text = _unquoted(token["text"])
            is_relative = directory is not None and not text.startswith("/")
            if not (texts == 1 and call.name in LINKING):
                yield _joined(directory if directory is not None else place, text), is_relative
            directory = None
        if call.name in {"execve", "execveat"} and texts:
            return


def _joined(directory: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(directory, path)) if path else posixpath.normpath(directory)


def _top(arguments: str) -> str:
    """Return *arguments* without what stands in brackets: structures and lists, whose texts are no paths."""
    parts: list[str] = []
    depth, position = 0, 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', arguments):
        if depth == 0:
            parts.append(arguments[position : match.start()])
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
        elif depth == 0:
            parts.append(match[0])
        position = match.end()
    return "".join([*parts, arguments[position:] if depth == 0 else ""])


def _unquoted(text: str) -> str:
    def character(match: re.Match[bytes]) -> bytes:
        word = match[1].decode()
        if word in NAMED:
            return NAMED[word]
        if word[0] == "x":
            return bytes([int(word[1:], 16)])
        return bytes([int(word, 8)]) if word.isdigit() else word.encode()

    return ESCAPE.sub(character, text.encode()).decode(errors="replace")


def _changed(ids: Ids, call: Call) -> Ids:
    """Return *ids* after *call*; -1 leaves one as it is."""
    given = [int(word) for word in re.findall(r"-?\d+", call.arguments)]
    names = ("real", "effective", "saved")
    places = SETTING[call.name]
    if call.name == "setuid" and ids.effective != 0:  # only root's sets all three
        places = (None, 0, None)
    found = {name: given[place] for name, place in zip(names, places, strict=True) if place is not None}
    return replace(ids, **{name: value for name, value in found.items() if value != -1})
