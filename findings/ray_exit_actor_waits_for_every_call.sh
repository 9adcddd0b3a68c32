#!/usr/bin/env bash
# Ray 2.60.0: an asynchronous actor that has called exit_actor() works on for as long as one of its calls is unanswered.
#
# exit_actor() ends an actor on purpose: its process exits, and its name is free. An asynchronous actor usually has a
# call that it holds open until something happens (a watcher, a long poll) and a loop of its own beside its calls. One
# expects the exit to cancel both, or to be refused. Instead the actor stays in between. Its process lives, its loop
# goes on and does whatever it does, and the held call is neither cancelled nor answered. New calls are neither
# executed nor refused: they wait until their caller gives up. Whoever called exit is told that the actor is
# temporarily unavailable. The name is still found.
#
# Seen: without an open call the process is gone within ten seconds, and a call raises ActorDiedError. With one it lives
# on and its loop counts on; a call gets no answer within five seconds; once the held call is answered the process ends.
# So a supervisor must take an actor that answers no call of Ray for lost, even if it is seen to work.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv env
env/bin/pip install -q --disable-pip-version-check 'ray==2.60.0' 2> pip.txt || { cat pip.txt; exit 1; }

cat > leaving.py <<'PY'
import asyncio
import os
import pathlib
import time

import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@ray.remote(num_cpus=0, max_concurrency=100)
class Leaving:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.counted = 0

    async def begin(self):
        self.loop = asyncio.ensure_future(self.count())
        return os.getpid()

    async def count(self):
        while True:
            self.counted += 1
            (self.folder / "counted").write_text(str(self.counted))
            await asyncio.sleep(0.1)

    async def until_something_happens(self):
        while not (self.folder / "happened").exists():
            await asyncio.sleep(0.1)

    async def leave(self):
        ray.actor.exit_actor()

    async def say(self):
        return "here"


def lives(pid):
    return os.path.exists(f"/proc/{pid}")


def ends(pid, within_s):
    until = time.monotonic() + within_s
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.2)
    return not lives(pid)


def counts(folder):
    before = (folder / "counted").read_text()
    time.sleep(1)
    return (folder / "counted").read_text() != before


def error_of(reference):
    try:
        return ray.get(reference, timeout=5)
    except Exception as error:
        return type(error).__name__


def leave(name, held):
    folder = pathlib.Path(name)
    folder.mkdir()
    actor = Leaving.options(name=name).remote(str(folder.resolve()))
    pid = ray.get(actor.begin.remote())
    waits = actor.until_something_happens.remote() if held else None
    time.sleep(1)
    told = error_of(actor.leave.remote())
    gone = ends(pid, 10)
    found = {"leave": told, "ended": gone, "works": not gone and counts(folder), "say": error_of(actor.say.remote())}
    if held:
        (folder / "happened").touch()
        found["ended once it was answered"] = ends(pid, 20)
    del waits
    return found


alone, held = leave("alone", False), leave("held", True)
print(ray.__version__, "no open call:", alone)
print("one open call:", held)
ray.shutdown()
as_seen = (
    alone["ended"]
    and alone["say"] == "ActorDiedError"
    and held
    == {
        "leave": "ActorUnavailableError",
        "ended": False,
        "works": True,
        "say": "GetTimeoutError",
        "ended once it was answered": True,
    }
)
raise SystemExit(0 if as_seen else 1)
PY
env RAY_USAGE_STATS_ENABLED=0 env/bin/python leaving.py 2>&1 | grep -v '(raylet)'
