"""A house of four brokers under faults: killed, stopped, cut off and lied to by a seed, and afterwards compared."""
