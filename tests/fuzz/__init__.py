"""Fuzzing of what comes from outside, guided by coverage: see CONTRIBUTING.md, and ``python -m tests.fuzz --help``."""
