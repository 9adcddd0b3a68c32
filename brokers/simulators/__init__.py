"""Simulated brokers, each behind the real wire protocol of its broker: for tests, rehearsals and demonstrations."""
