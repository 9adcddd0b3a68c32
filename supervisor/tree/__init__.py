"""The supervision tree as a pure state machine: events in, commands out. Import :mod:`.tree`; its words are in
:mod:`.model`."""
