"""The promises of :mod:`brokers.port`, written once and kept by every adapter. What is special of one broker stands
beside it, in ``tests/brokers``."""
