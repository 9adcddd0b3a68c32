"""``python -m tests.fuzz``: one target for some minutes, guided by coverage (atheris), or a find again."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.mutator import LARGEST, mutated
from tests.fuzz.targets import TARGETS, made


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Feed one target with what may come from outside. Needs atheris, in an environment of its own.",
    )
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of chance (0: a fresh one)")
    parser.add_argument("--finds", type=Path, default=Path("finds"), help="folder for inputs that raised something")
    parser.add_argument("--corpus", type=Path, help="folder of inputs to begin with, and for those that reach more")
    parser.add_argument("--again", type=Path, help="feed this one input, and end")
    asked = parser.parse_args()
    if asked.again is not None:
        made(asked.target).feed(asked.again.read_bytes())
        return 0
    return _fuzz(asked)


def _fuzz(asked: argparse.Namespace) -> int:
    import atheris  # type: ignore[import-untyped]  # no dependency of ours: it has wheels for some systems only

    with atheris.instrument_imports(include=["brokers", "actors", "supervisor"], enable_loader_override=False):
        target = made(asked.target)

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        chance = random.Random(seed)  # noqa: S311 - nothing secret rests on it
        if chance.random() < 0.2:
            return bytes(atheris.Mutate(data, largest))
        return mutated(data, chance)[:largest]

    asked.finds.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = asked.corpus or Path(folder)
        corpus.mkdir(parents=True, exist_ok=True)
        for place, sample in enumerate(target.samples()):
            (corpus / f"sample-{place}").write_bytes(sample)
        arguments = [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={round(60 * asked.minutes)}",
            f"-artifact_prefix={asked.finds}/{asked.target}-",
            f"-max_len={LARGEST}",
            "-len_control=0",
            "-timeout=20",
            "-rss_limit_mb=3000",
            *([f"-seed={asked.seed}"] if asked.seed else []),
        ]
        atheris.Setup(arguments, target.feed, custom_mutator=mutate)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
