"""Interactive Brokers behind TWS or IB Gateway: its binary protocol, through ib_async."""

from brokers.ib.client import IbBroker

__all__ = ["IbBroker"]
