"""What a broker says: the vocabulary of snapshots, the port every adapter meets, the adapters themselves."""
