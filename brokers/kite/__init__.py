"""Zerodha Kite behind the port: :class:`KiteBroker`."""

from brokers.kite.client import KiteBroker

__all__ = ["KiteBroker"]
