#!/usr/bin/env bash
# aiolimiter: AsyncLimiter(10, 5), ten in five seconds, lets nineteen pass in the first five seconds.
#
# One would guess: at most max_rate in any time_period: "up to max_rate acquisitions are allowed within this time period in a burst".
# What happens: it is a leaky bucket: ten pass at once, and the bucket leaks meanwhile at two a second, so that nine more pass before
#   the five seconds are over.
# Why it matters: a broker that counts ten orders in a second refuses the eleventh, and blocks the key of whoever goes on; the
#   limiter that was set to the documented number lets nearly twice as many through, after each quiet spell.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check aiolimiter==1.3.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "aiolimiter".split():
    print(package, version(package))

import asyncio

from aiolimiter import AsyncLimiter


async def passed(rate, period, wanted):
    loop, limiter = asyncio.get_running_loop(), AsyncLimiter(rate, period)
    began, times = loop.time(), []
    for _ in range(wanted):
        async with limiter:
            times.append(loop.time() - began)
    return times


times = asyncio.run(passed(10, 5, 20))
print("AsyncLimiter(10, 5), passed at:", [round(at, 1) for at in times])
print("within the first five seconds:", sum(at < 4.9 for at in times))
assert sum(at < 0.4 for at in times) == 10 and sum(at < 4.9 for at in times) == 19
print("as stated")
PY
