"""A small house on whichever Ray is imported: up and verified, asked by a program, drained of nothing, ended in order.

PYTHONPATH=DIRECTORY python -m tests.cluster.smoke 2.59    # the Ray that was put there, and no other
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from actors.runtime.ray_environment import prepare

os.environ["RAY_AUTH_MODE"] = "token"
prepare(None)


def main(version: str) -> None:
    """Raises ``AssertionError`` for what is not as it shall be."""
    import ray

    import supervisor
    from actors.runtime import ray_cluster, ray_session
    from supervisor.client import processes
    from supervisor.config.loader import load
    from tests.cluster.conftest import CONFIGURATION, all_verified, until

    assert f"{ray.__version__}.".startswith(f"{version}."), f"this is Ray {ray.__version__} of {ray.__file__}"
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "accounts.yaml")
        path.write_text(CONFIGURATION.format(directory=folder))
        with processes.started(load(path), detach=False, on_step=print, dashboard=False) as running:
            until(running, all_verified, "everything is up and verified")
            gcs = ray_session.connected_to()
            assert gcs is not None
            assert not ray_session.lets_everybody_in(gcs), "somebody without a token is let in"
            assert len(ray_cluster.machines().living) == 1
            ray_cluster.placement((("zone", "a"),), "ab" * 28)  # the options are there
            with supervisor.connect(path) as handle:
                assert handle.status().to_dict()["status"] in {"SUCCESS", "REPAIRED", "DEGRADED"}
                assert handle.restart("fx/GBP_JPY")
            until(running, all_verified, "it is up again")
    print(f"Ray {ray.__version__}: up, asked, restarted and stopped in {time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1])
