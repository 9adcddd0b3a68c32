"""MetaTrader 5 behind a ZeroMQ gateway: JSON over REQ/REP, one request a reply."""

from brokers.mt5.client import Mt5Broker

__all__ = ["Mt5Broker"]
