"""The supervision tree as a pure state machine: events in, commands out. Import :mod:`.tree`; :mod:`.model` has its
vocabulary."""
