"""The parser of strace output, on lines in strace's format."""

from __future__ import annotations

import pytest
from tests.security.traced import Ids, touches, violations

HOME = "/var/lib/gateways/home"


def test_the_owner_check_is_allowed() -> None:
    """Root may open the home relative to its parent without following a link, and read its status."""
    lines = [
        '10 openat(AT_FDCWD</>, "/", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH|O_DIRECTORY) = 3</>',
        '10 openat(3</>, "var", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH|O_DIRECTORY) = 4</var>',
        '10 openat(6</var/lib/gateways>, "home", O_RDONLY|O_NOFOLLOW|O_PATH|O_DIRECTORY) = 7</var/lib/gateways/home>',
        '10 newfstatat(7</var/lib/gateways/home>, "", {st_mode=S_IFDIR|0700, st_size=300, ...}, AT_EMPTY_PATH) = 0',
        '10 mkdirat(6</var/lib/gateways>, "home", 0700) = 0',
        "10 fchown(7</var/lib/gateways/home>, 998, 998) = 0",
        '10 unlinkat(6</var/lib/gateways>, "home", AT_REMOVEDIR) = 0',
    ]
    assert violations(lines, HOME) == []


@pytest.mark.parametrize(
    "line",
    [
        'stat("/var/lib/gateways/home", 0x7ffd) = 0',
        'openat(AT_FDCWD</>, "/var/lib/gateways/home", O_RDONLY|O_NOFOLLOW|O_DIRECTORY) = 3',
        'openat(6</var/lib/gateways>, "home", O_RDONLY|O_DIRECTORY) = 7</var/lib/gateways/home>',
        'openat(7</var/lib/gateways/home>, "config.toml", O_RDONLY|O_NOFOLLOW) = 8',
        'openat(AT_FDCWD</var/lib/gateways>, "home/x", O_RDONLY) = -1 ENOENT (No such file or directory)',
        'execve("/var/lib/gateways/home/bin/x", ["x"], 0x7ffe /* 3 vars */) = 0',
        'rename("/tmp/a", "/var/lib/gateways/home/b") = 0',
        'renameat2(AT_FDCWD</>, "tmp/a", 7</var/lib/gateways/home>, "b", RENAME_NOREPLACE) = 0',
        'symlinkat("x", 7</var/lib/gateways/home>, "y") = 0',
        'unlinkat(6</var/lib/gateways>, "home", 0) = 0',
        'unlinkat(7</var/lib/gateways/home>, "x", AT_REMOVEDIR) = 0',
        'connect(3<UNIX-STREAM:[1]>, {sa_family=AF_UNIX, sun_path="/var/lib/gateways/home/run/.s"}, 110) = 0',
        'chown("/var/lib/gateways/home", 0, 0) = 0',
        'openat(AT_FDCWD</>, "/var/lib/gateways/other/../home/x", O_RDONLY) = 3',
        'openat(AT_FDCWD</>, "/var/lib/gateways/h\\157me/x", O_RDONLY) = 3',
    ],
)
def test_calls_with_a_path_in_the_home_are_found(line: str) -> None:
    """Every call on the home, or on a path below it, is a violation while the thread has a user id of root."""
    assert violations([f"10 {line}"], HOME)
    assert not violations(["10 setresuid(998, 998, 998) = 0", f"10 {line}"], HOME)
    assert violations(["10 setresuid(998, 998, 0) = 0", f"10 {line}"], HOME)
    assert violations(["10 setresuid(998, 998, 998) = -1 EPERM (Operation not permitted)", f"10 {line}"], HOME)


@pytest.mark.parametrize(
    "line",
    [
        'openat(AT_FDCWD</>, "/var/lib/gateways/homes/x", O_RDONLY) = 3',
        'execve("/usr/bin/python3", ["python3", "--home", "/var/lib/gateways/home"], ["A=/var/lib/gateways/home"]) = 0',
        'symlink("/var/lib/gateways/home/x", "/tmp/y") = 0',
        "exit_group(0) = ?",
        "+++ exited with 0 +++",
        "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=12, si_uid=0, si_status=0} ---",
    ],
)
def test_texts_that_are_not_accessed_are_ignored(line: str) -> None:
    """Arguments of a program and the content of a link are not paths that a call accesses."""
    assert violations([f"10 {line}"], HOME) == []


def test_a_child_inherits_the_ids_of_its_parent() -> None:
    """Its first line may be written before the return of the call that created it."""
    lines = [
        "10 setresuid(-1, 998, -1) = 0",
        "10 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>",
        '11 openat(AT_FDCWD</>, "/var/lib/gateways/home/a", O_RDONLY <unfinished ...>',
        "10 <... clone resumed>, child_tidptr=0x7f) = 11",
        "11 <... openat resumed>) = 3</var/lib/gateways/home/a>",
        "10 setresuid(0, 0, 0) = 0",
        "11 setuid(998) = 0",
        '11 openat(AT_FDCWD</>, "/var/lib/gateways/home/b", O_RDONLY) = 4',
        "11 vfork() = 12",
        '12 openat(AT_FDCWD</>, "/var/lib/gateways/home/c", O_RDONLY) = 4',
    ]
    found = {touch.path[-1]: touch.ids for touch in touches(lines)}
    assert found == {"a": Ids(0, 998, 0), "b": Ids(0, 998, 0), "c": Ids(0, 998, 0)}


def test_children_of_a_process_that_dropped_root_are_not_root() -> None:
    """The same is true after an execve."""
    lines = [
        "10 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x7f, stack_size=0x9000}, 88) = 11",
        "11 setgroups(1, [998]) = 0",
        "11 setresuid(998, 998, 998) = 0",
        '11 execve("/usr/bin/python3", ["python3"], 0x7f /* 4 vars */) = 0',
        "11 fork() = 12",
        '12 openat(AT_FDCWD</>, "/var/lib/gateways/home/a", O_RDONLY) = 4',
        '10 openat(AT_FDCWD</>, "/var/lib/gateways/home/b", O_RDONLY) = 4',
    ]
    assert [line.split('"')[1] for line in violations(lines, HOME)] == [f"{HOME}/b"]


def test_relative_paths_start_in_the_working_directory() -> None:
    """A change of the working directory is followed, and inherited by children."""
    lines = [
        '10 chdir("/var/lib/gateways") = 0',
        "10 fork() = 11",
        '11 unlink("home/x") = 0',
        '10 chdir("/nowhere") = -1 ENOENT (No such file or directory)',
        '10 access("home/y", F_OK) = 0',
        "10 fchdir(3</etc>) = 0",
        '10 access("home/z", F_OK) = 0',
    ]
    assert [touch.path for touch in touches(lines) if touch.call.name in {"unlink", "access"}] == [
        f"{HOME}/x", f"{HOME}/y", "/etc/home/z",
    ]  # fmt: skip


def test_seteuid_alone_does_not_drop_root() -> None:
    """A process with a saved user id of 0 can become root again."""
    lines = [
        "10 setresuid(-1, 998, -1) = 0",
        '10 openat(AT_FDCWD</>, "/var/lib/gateways/home/a", O_RDONLY) = 3',
    ]
    assert len(violations(lines, HOME)) == 1
