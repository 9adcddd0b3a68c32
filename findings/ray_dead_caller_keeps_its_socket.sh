#!/usr/bin/env bash
# Ray 2.60.0: an actor that has not answered yet keeps the socket, and the task, of each caller that has died.
#
# An asynchronous actor holds a call open until something happens, as a watcher or a long poll does. Its caller is
# killed. One expects the call to be cancelled, or at least its connection to be closed: the process at the other end is
# gone, and Ray has logged its death. Neither happens. The coroutine waits on, is never cancelled, and the server's end
# of the connection stays an open descriptor without a connection. Each restarted caller adds one of each, in every
# actor that it watches, until the actor answers or ends.
#
# Seen: five killed callers, and after ten further seconds five sockets of no connection and five tasks that wait, none
# of them cancelled; answering the calls frees all of them. A watcher that its own restarts must not pile up has to be
# answered when the next one asks.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv env
env/bin/pip install -q --disable-pip-version-check 'ray==2.60.0' 'psutil==7.2.2' 2> pip.txt || { cat pip.txt; exit 1; }

cat > watched.py <<'PY'
import asyncio
import os
import signal
import time

import psutil
import ray

CALLERS = 5
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@ray.remote(num_cpus=0, max_concurrency=100)
class Watched:
    def __init__(self):
        self.answer = asyncio.Event()
        self.waiting = self.cancelled = 0

    async def until_something_happens(self):
        self.waiting += 1
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    async def happen(self):
        self.answer.set()

    async def state(self):
        found = set()
        for number in os.listdir("/proc/self/fd"):
            try:
                found.add(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                pass  # the descriptor of the listing itself
        sockets = sum(name.startswith("socket:") for name in found)
        return {
            "sockets of no connection": sockets - len(psutil.Process().net_connections("all")),
            "calls that wait": self.waiting,
            "cancelled": self.cancelled,
        }


@ray.remote(num_cpus=0)
class Watcher:
    def __init__(self, watched):
        self.call = watched.until_something_happens.remote()

    def pid(self):
        return os.getpid()


def reaches(watched, expected, within_s):
    """The last state, as soon as it is the expected one."""
    until = time.monotonic() + within_s
    while (state := ray.get(watched.state.remote())) != expected and time.monotonic() < until:
        time.sleep(0.5)
    return state


def state(sockets, waiting):
    return {"sockets of no connection": sockets, "calls that wait": waiting, "cancelled": 0}


watched = Watched.remote()
for number in range(CALLERS):
    watcher = Watcher.remote(watched)
    pid = ray.get(watcher.pid.remote())
    while ray.get(watched.state.remote())["calls that wait"] <= number:
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
left = reaches(watched, state(CALLERS, CALLERS), 20)
time.sleep(10)  # it might be noticed late
after = ray.get(watched.state.remote())
print(ray.__version__, "after", CALLERS, "killed callers:", after)
ray.get(watched.happen.remote())
freed = reaches(watched, state(0, 0), 20)
print("after the calls were answered:", freed)
ray.shutdown()
raise SystemExit(0 if (left, after, freed) == (state(CALLERS, CALLERS), state(CALLERS, CALLERS), state(0, 0)) else 1)
PY
env RAY_USAGE_STATS_ENABLED=0 env/bin/python watched.py 2>&1 | grep -v '(raylet)'
