#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` groups nothing, and says nothing.
#
# pytest-xdist's documentation: tests that bear the mark xdist_group with one name run in the same worker. So suites keep
# those together that share what there is only once: a cluster, a port, a database. The plugin hands a group's name on by
# writing it into an attribute of the test from which pytest 9.2.0 no longer takes the test's name. The mark is accepted,
# "scheduling tests via LoadGroupScheduling" is told, and the tests of one group run in several workers at once.
#
# Seen: with pytest 9.2.0 eight tests of one group ran in 2 workers; with pytest 8.4.2 in 1.
# Who relies on it gets two brokers' simulators on one port, or two clusters on one machine, and tests that fail now and
# then. A scheduler given by the hook pytest_xdist_make_scheduler groups them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > test_of_one_group.py <<'PY'
import time

import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(8))
def test_something(number, record_property, worker_id):
    time.sleep(0.2)
    with open("workers.txt", "a") as file:
        file.write(worker_id + "\n")
PY

workers_with() { # the version of pytest
    python3 -m venv "env-$1"
    "env-$1/bin/pip" install -q --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0 execnet==2.1.2 2> pip.txt || { cat pip.txt; return 1; }
    rm -f workers.txt
    "env-$1/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup > run.txt
    sort -u workers.txt | grep -c gw
}

with_9=$(workers_with 9.2.0)
with_8=$(workers_with 8.4.2)
echo "pytest 9.2.0 and pytest-xdist 3.8.0: eight tests of one group ran in $with_9 workers"
echo "pytest 8.4.2 and pytest-xdist 3.8.0: in $with_8"
[ "$with_9" = 2 ] && [ "$with_8" = 1 ] || { echo "changed: look at it again"; exit 1; }
