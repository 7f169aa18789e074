"""Parser of strace output: finds accesses to a home by threads that still have root's rights.

``strace -f -y -e trace=%file,%process,%creds,connect,bind -o FILE`` writes one line for each system call::

    41 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>
    41 clone(child_stack=NULL, flags=CLONE_VFORK|SIGCHLD <unfinished ...>
    42 setresuid(998, 998, 998) = 0
    41 <... clone resumed>) = 42

Theory of operation. A thread is root's until all three of its user ids are non-zero (setresuid and similar calls). A
child has the ids that its parent has at the call that creates it; the return of that call may be written after the
child's first line. Each quoted text among a call's arguments is a path, relative to the descriptor before it (``-y``
shows the descriptor's path) or to the working directory.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

__all__ = ["STRACE", "Call", "Ids", "Touch", "calls", "touches", "violations"]

#: With -D the traced program remains the child of the caller, which need not wait for the other traced processes.
STRACE = (
    "strace", "-D", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "4096",
    "-e", "trace=%file,%process,%creds,fchdir,fchown,fchmod,connect,bind",
)  # fmt: skip
LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
WHOLE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)")
UNFINISHED = re.compile(r"(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\) += (?P<result>.*)")
#: A quoted text, a descriptor with its path, or a word, separated by commas.
TOKEN = re.compile(
    r'"(?P<text>(?:[^"\\]|\\.)*)"(?:\.\.\.)?|(?:AT_FDCWD|\d+)<(?P<directory>(?:[^>\\]|\\.)*)>|(?P<word>[^,"<>\s][^,"<>]*)'
)
ESCAPE = re.compile(rb"\\(x[0-9a-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
NAMED = {"n": b"\n", "t": b"\t", "r": b"\r", "v": b"\v", "f": b"\f"}
#: Calls that create a child.
CREATING = {"clone", "clone3", "fork", "vfork"}
#: Which arguments set the real, the effective and the saved user id.
SETTING = {"setresuid": (0, 1, 2), "setreuid": (0, 1, None), "setuid": (0, 0, 0), "seteuid": (None, 0, None)}
#: The first text of these calls is the content of a link, not a path that the call accesses.
LINKING = {"symlink", "symlinkat"}
#: Calls that the broker may make on the home itself, by its last component relative to the descriptor of its parent.
ALLOWED_ON_HOME = {"mkdirat", "fchownat", "fchown", "fchmod", "unlinkat"}
STATUS_CALLS = {"newfstatat", "statx", "fstatat64", "fstat", "faccessat2"}
FAILED = re.compile(r"-1 E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call of a thread; ``first_line`` and ``last_line`` are the numbers of its lines."""

    pid: int
    name: str
    arguments: str
    result: str
    first_line: int
    last_line: int

    @property
    def failed(self) -> bool:
        """Whether it returned an error."""
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
    """A path among the arguments of ``call``, whose thread has ``ids``; ``relative``: relative to a descriptor."""

    call: Call
    path: str
    relative: bool
    ids: Ids


@dataclass(slots=True)
class _Threads:
    """User ids and working directory of each thread."""

    first: Ids
    parents: Mapping[int, int]
    ids: dict[int, Ids] = field(default_factory=dict)
    directories: dict[int, str] = field(default_factory=dict)

    def add(self, pid: int) -> None:
        """Add a thread if it is new; it inherits from its parent."""
        if pid in self.ids:
            return
        parent = self.parents.get(pid)
        if parent is not None:
            self.add(parent)
        self.ids[pid] = self.first if parent is None else self.ids[parent]
        self.directories[pid] = "/" if parent is None else self.directories[parent]

    def update(self, call: Call) -> None:
        """Apply the change of *call* to its thread."""
        if call.failed:
            return
        if call.name in SETTING:
            self.ids[call.pid] = _changed(self.ids[call.pid], call)
        elif call.name in {"chdir", "fchdir"}:
            paths = [path for path, _ in _paths(call, self.directories[call.pid])]
            if paths:
                self.directories[call.pid] = paths[0]


def calls(lines: Iterable[str]) -> list[Call]:
    """Return the calls in strace output, in the order in which they returned; those cut off by a kill come last."""
    unfinished: dict[int, tuple[int, str, str]] = {}
    found: list[Call] = []
    number = 0
    for number, line in enumerate(lines):
        split = LINE.match(line)
        if split is None:
            continue
        pid, rest = int(split["pid"]), split["rest"]
        if match := UNFINISHED.fullmatch(rest):
            unfinished[pid] = (number, match["name"], match["arguments"])
        elif match := RESUMED.fullmatch(rest):
            start, name, arguments = unfinished.pop(pid, (number, match["name"], ""))
            found.append(_call(pid, name, arguments + match["arguments"], match["result"], start, number))
        elif match := WHOLE.fullmatch(rest):
            found.append(_call(pid, match["name"], match["arguments"], match["result"], number, number))
    for pid, (start, name, arguments) in unfinished.items():
        found.append(_call(pid, name, arguments, "?", start, number + 1))
    return found


def _call(pid: int, name: str, arguments: str, result: str, first_line: int, last_line: int) -> Call:
    return Call(pid=pid, name=name, arguments=arguments, result=result, first_line=first_line, last_line=last_line)


def touches(lines: Iterable[str], first: Ids = Ids(0, 0, 0)) -> Iterator[Touch]:
    """Yield every path among the arguments of a call, with the ids of the thread; the first thread has *first*.

    A call has the ids of the thread at its first line, and changes them at its last line.
    """
    found = calls(lines)
    parents = {
        int(call.result.split("<")[0].split()[0]): call.pid
        for call in found
        if call.name in CREATING and re.match(r"[1-9]\d*", call.result)
    }
    threads = _Threads(first, parents)
    events = sorted(
        [(call.first_line, 0, index) for index, call in enumerate(found)]
        + [(call.last_line, 1, index) for index, call in enumerate(found)]
    )
    for _, is_end, index in events:
        call = found[index]
        threads.add(call.pid)
        if is_end:
            threads.update(call)
            continue
        for path, relative in _paths(call, threads.directories[call.pid]):
            yield Touch(call=call, path=path, relative=relative, ids=threads.ids[call.pid])


def violations(lines: Iterable[str], home: str) -> list[str]:
    """Return the calls of root's threads on *home* or below it, except those that find its owner or create the home.

    Allowed are, on the home itself and relative to a descriptor of its parent: opening the directory without following
    links, reading its status, creating it, changing its owner and mode, and removing it if it is empty.
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
    if name in STATUS_CALLS:
        return "AT_SYMLINK_NOFOLLOW" in arguments or "AT_EMPTY_PATH" in arguments or name == "fstat"
    if name == "unlinkat":
        return "AT_REMOVEDIR" in arguments
    if name == "fchownat":
        return "AT_SYMLINK_NOFOLLOW" in arguments or "AT_EMPTY_PATH" in arguments
    return name in ALLOWED_ON_HOME


def _is_below(path: str, home: str) -> bool:
    return path == home or path.startswith(f"{home}/")


def _paths(call: Call, working_directory: str) -> Iterator[tuple[str, bool]]:
    """Yield each path among the arguments, and whether it is relative to a descriptor."""
    if call.name in {"connect", "bind"}:
        match = re.search(r'sun_path="((?:[^"\\]|\\.)*)"', call.arguments)
        if match is not None:
            yield _joined(working_directory, _unquoted(match[1])), False
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
                yield _joined(directory if directory is not None else working_directory, text), is_relative
            directory = None
        if call.name in {"execve", "execveat"} and texts:
            return


def _joined(directory: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(directory, path)) if path else posixpath.normpath(directory)


def _top(arguments: str) -> str:
    """Return *arguments* without structures and lists in brackets, whose texts are not paths."""
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
    """Return *ids* after *call*; an argument of -1 leaves an id unchanged."""
    arguments = [int(word) for word in re.findall(r"-?\d+", call.arguments)]
    names = ("real", "effective", "saved")
    positions = SETTING[call.name]
    if call.name == "setuid" and ids.effective != 0:  # only root's setuid(2) sets all three
        positions = (None, 0, None)
    values = {name: arguments[index] for name, index in zip(names, positions, strict=True) if index is not None}
    return replace(ids, **{name: value for name, value in values.items() if value != -1})
