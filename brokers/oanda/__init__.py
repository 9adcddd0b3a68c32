"""OANDA v20 behind the port: :class:`OandaBroker`."""

from brokers.oanda.client import OandaBroker

__all__ = ["OandaBroker"]
