"""The supervisor's actor and its parts: what should run, what runs, health, halts, verdicts. Import :mod:`.actor`."""
