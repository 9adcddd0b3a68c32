"""The real actors on the local runtime, in virtual time, in a world in which everything goes wrong by one seed.

What happens, and when, follows from the seed alone: the same seed is the same run, message for message. ``python -m
tests.simulation --seed N --trace`` shows one, ``--campaign COUNT`` tries many. The laws are in
:mod:`tests.simulation.laws`.
"""
