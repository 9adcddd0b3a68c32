"""What tests of the paper venue share."""

from __future__ import annotations

from unittest.mock import patch

from brokers.errors import Unreachable
from brokers.paper.client import PaperBroker
from brokers.paper.store import Store


async def killed(broker: PaperBroker) -> None:
    """As SIGKILL leaves it: its lock goes with its process, and nothing more is written."""
    gone = Unreachable("write the state", "rehearsal", "its process was killed", "Nothing")
    with patch.object(Store, "write", side_effect=gone):
        await broker.close()
