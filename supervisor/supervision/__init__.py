"""The supervisor's actor and its parts: what shall run, what does, health, halts, verdicts. Import :mod:`.actor`."""
