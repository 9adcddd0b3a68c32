"""``python -m tests.simulation``: one seed, or a campaign of many."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial

from tests.simulation.run import STEPS, Outcome, run
from tests.simulation.worker import bounded


def _one(seed: int, steps: int, *, trace: bool) -> int:
    outcome = run(seed, steps, print if trace else None)
    print(f"seed {seed}, {steps} steps: {outcome.failure or 'every law held'}")
    print(_totals([outcome]))
    return 0 if outcome.failure is None else 1


def _campaign(first: int, count: int, steps: int, processes: int) -> int:
    began_s = time.monotonic()
    outcomes: list[Outcome] = []
    work = partial(bounded, steps=steps)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for outcome in pool.imap_unordered(work, range(first, first + count), chunksize=4):
            outcomes.append(outcome)
            if outcome.failure is not None:
                print(f"FAILED seed {outcome.seed}: {outcome.failure}\n  {outcome.command}", flush=True)
            if len(outcomes) % 100 == 0:
                print(f"{len(outcomes)} seeds, {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    failed = sorted(outcome.seed for outcome in outcomes if outcome.failure is not None)
    print(f"seeds {first} to {first + count - 1}, {steps} steps each, {time.monotonic() - began_s:.0f} s")
    print(_totals(outcomes))
    print(f"{count - len(failed)} of {count} seeds passed" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


def _totals(outcomes: list[Outcome]) -> str:
    faults: Counter[str] = Counter()
    for outcome in outcomes:
        faults += outcome.faults
    names = ("cycles", "events", "messages", "restarts", "acknowledged", "allowed", "retired")
    sums = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in names}
    kinds = ", ".join(f"{kind} {times}" for kind, times in sorted(faults.items()))
    return (
        f"{sums['cycles']} cycles, {sums['events']} events, {sums['messages']} messages, {sums['restarts']} restarts, "
        f"{sums['acknowledged']} acknowledged reports, trading allowed at {sums['allowed']} looks, "
        f"{sums['retired']} instruments retired at the end\n"
        f"{faults.total()} faults of {len(faults)} kinds: {kinds}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description="Run the actors in virtual time: one seed, or a campaign of many.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="run this seed")
    what.add_argument("--campaign", type=int, metavar="COUNT", help="run this many seeds")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="N", help="the first seed of a campaign")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"the steps of a run (default {STEPS})")
    parser.add_argument("--processes", type=int, default=2, help="the processes of a campaign (default 2)")
    parser.add_argument("--trace", action="store_true", help="print everything that happens in a seed")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _one(asked.seed, asked.steps, trace=asked.trace)
    return _campaign(asked.first, asked.campaign, asked.steps, asked.processes)


if __name__ == "__main__":
    sys.exit(main())
