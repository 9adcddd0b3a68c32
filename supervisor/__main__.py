"""``python -m supervisor``."""

from __future__ import annotations

import atexit
import gc
import sys

if __name__ == "__main__":
    # A command loads nine hundred modules and makes hardly any garbage. Python's own thresholds would walk all that is
    # loaded several times, once more as the process ends: a quarter of the time of a whole `reconcile`.
    gc.set_threshold(100_000, 20, 50)
    atexit.register(gc.freeze)
    try:
        from supervisor.cli.main import main

        main()
    except KeyboardInterrupt:
        # While modules were being imported: nothing has begun.
        sys.exit(130)
