"""``drain``: a machine of a cluster is emptied before it is taken away."""

from __future__ import annotations

import time

from actors.runtime.ports import CallError
from supervisor.changes.requests import ChangeRefused
from supervisor.cli.console import Failure, say
from supervisor.client.processes import find
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED

_LOOK_S = 0.3


def drain(configuration: Configuration, node: str, *, force: bool) -> int:
    """Have it drained, say who has left, and return when nobody that can leave is there any more."""
    supervisor = find(configuration)
    try:
        found = supervisor.drain(node, force=force)
    except ChangeRefused as error:
        raise Failure(str(error)) from None
    print(f"draining {found.words}: {', '.join(found.moves) or 'no actor'} to move")
    for name, why in found.stays.items():
        say(f"{name} stays until it is gone: {why}")
    left = list(found.moves)
    while left:
        time.sleep(_LOOK_S)  # there is no event for it outside the cluster
        try:
            rows = {row["name"]: row for row in supervisor.status()["supervisor"]["actors"]}
        except CallError as error:
            say(f"{error}; asking again")
            continue
        for name in list(left):
            row = rows.get(name)
            if row is None or row["state"] in ("PENDING", "QUARANTINED"):
                left.remove(name)
                say(f"{name} has left, and does not run: {row['reason'] if row else 'it is wanted no more'}")
            elif row["state"] == "UP" and row["node"] is not None and row["node"]["id"] != found.node:
                left.remove(name)
                print(f"{name} is at {row['node']['address']}")
    return EXIT_UNVERIFIED if found.stays else EXIT_OK
