"""What the adapters of brokers share: one mechanism each, with what differs between brokers as an argument."""
