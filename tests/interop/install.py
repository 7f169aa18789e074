"""Installs the packages of a package-lock.json (tests/interop, or tests/browser) into a directory outside of the tree.

    python tests/interop/install.py DIRECTORY [SOURCE]

Without Node.js nothing is installed, and the tests that need the packages are skipped with that reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOCK = "package-lock.json"
INSTALLED = "installed.json"
LIMIT = 300  # seconds


def main(directory: Path, source: Path = HERE) -> int:
    """Install what *source* locks and return npm's exit code; do nothing if this lock file is already installed."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        sys.stderr.write(f"{source}: no node and npm on this machine; its tests are skipped\n")
        return 0
    lock = (source / LOCK).read_bytes()
    installed = directory / INSTALLED
    if installed.is_file() and installed.read_bytes() == lock:
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", LOCK):
        shutil.copy2(source / name, directory / name)
    # The socket server declares every extension of PGlite as a peer dependency: 200 MB that are not needed.
    command = [npm, "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"]
    code = subprocess.run(command, cwd=directory, timeout=LIMIT, check=False).returncode
    if code == 0:
        installed.write_bytes(lock)
    return code


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:3])))
