"""``drain``: empty a machine of a cluster before it is taken away."""

from __future__ import annotations

import time

from actors.runtime.ports import CallError
from supervisor.changes.requests import ChangeRefused
from supervisor.cli.console import Failure, say
from supervisor.client.processes import find
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED

_LOOK_S = 0.3
SILENT_FOR_S = 60.0
"""How long a supervisor may be silent meanwhile, as one that restarts is."""


def drain(configuration: Configuration, node: str, *, force: bool) -> int:
    """Drain a node, print which actors have left, and return when all that can leave have left. The exit status: 0
    nothing is there any more; 2 refused; 3 some actors stay, or nobody answers any more."""
    supervisor = find(configuration)
    try:
        found = supervisor.drain(node, force=force)
    except ChangeRefused as error:
        raise Failure(str(error)) from None
    print(f"draining {found.words}: {', '.join(found.moves) or 'no actor'} to move")
    for name, why in found.stays.items():
        say(f"{name} stays until it is gone: {why}")
    left = list(found.moves)
    answered_s = time.monotonic()
    while left:
        time.sleep(_LOOK_S)  # there is no event for it outside the cluster
        try:
            rows = {row["name"]: row for row in supervisor.status()["supervisor"]["actors"]}
        except CallError as error:
            if time.monotonic() - answered_s > SILENT_FOR_S:
                text = f"{error}. It goes on draining when it answers again; status shows who is still there"
                raise Failure(text, EXIT_UNVERIFIED) from None
            say(f"{error}; asking again")
            continue
        answered_s = time.monotonic()
        for name in list(left):
            row = rows.get(name)
            if row is None or row["state"] in ("PENDING", "QUARANTINED"):
                left.remove(name)
                say(f"{name} has left, and does not run: {row['reason'] if row else 'it is no longer wanted'}")
            elif row["state"] == "UP" and row["node"] is not None and row["node"]["id"] != found.node:
                left.remove(name)
                print(f"{name} is at {row['node']['address']}")
    return EXIT_UNVERIFIED if found.stays else EXIT_OK
