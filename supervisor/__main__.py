"""``python -m supervisor``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from supervisor.cli.main import main

        main()
    except KeyboardInterrupt:
        # While modules were being imported: nothing has begun.
        sys.exit(130)
