"""``python -m mosaic_gateway``: the verbs of an installation, without the installer's."""

from __future__ import annotations

import sys

from mosaic_gateway.cli.root import main

if __name__ == "__main__":
    sys.exit(main())
