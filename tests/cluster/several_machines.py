"""A cluster of three machines, played by three raylets on this one's loopback, of which one is lost: a process of its
own, as Ray reads its settings (tokens, how fast a node is given up) once. Prints what was seen, as JSON.

    python -m tests.cluster.several_machines DIRECTORY SEED killed|silent|upgraded

Where it is ``upgraded``, no machine is lost: the installation in the working directory is replaced by its next version,
actor by actor.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from actors.runtime.nodes import OF_ONE_NODE
from actors.runtime.ray_environment import LOOPBACK, Address, prepare
from tests.ports import own_port

CONFIGURATION = """
ray: {{address: "{address}", namespace: test}}
journal: {{url: "sqlite:///{directory}/journal.db", place: {{disk: journal}}}}
defaults: {{interval_s: 1, confirm_gap_ms: 50, settle_ms: 100, timeout_ms: 2000}}
accounts:
  - {{name: fx, broker: oanda, simulator: true, place: {{zone: b}}, instruments: [GBP_JPY]}}
  - {{name: cfd, broker: mt5, simulator: true, place: {{gateway: mt5}}, instruments: [EURUSD]}}
"""
JOINS_WITHIN_S = 90.0
HEAD, PLAIN, GATEWAY = {"disk": "journal"}, {"zone": "b"}, {"zone": "b", "gateway": "mt5"}


@contextmanager
def machines() -> Iterator[Any]:
    """Ray's cluster for tests, with no machine yet; none of its processes lives afterwards."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    asked: Any = services.get_node

    def asked_patiently(*args: Any) -> Any:
        """A raylet has thirty seconds to register, whatever the settings are: a busy machine takes longer."""
        until_s = time.monotonic() + JOINS_WITHIN_S
        while True:
            try:
                return asked(*args)
            except RuntimeError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.2)

    cluster = Cluster()
    try:
        with patch.object(services, "get_node", asked_patiently):
            yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's


def add_machine(cluster: Any, labels: Mapping[str, str], **further: object) -> Any:
    """One more machine, with as few processes as a raylet needs; :func:`joined` waits for it. ``further`` is as Ray
    takes it."""
    # A raylet that is given its agents' ports need not wait for them, which it does for half a minute only.
    ports = ("metrics_agent_port", "runtime_env_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
    return cluster.add_node(
        wait=False,
        node_ip_address=LOOPBACK,
        labels=dict(labels),
        include_dashboard=False,
        include_log_monitor=False,
        no_monitor=True,
        num_cpus=2,
        **{port: own_port() for port in ports},
        **further,
    )


def joined(cluster: Any, *nodes: Any) -> None:
    """Wait until these are there: Ray itself waits half a minute for it, which a busy machine does not keep."""
    until_s = time.monotonic() + JOINS_WITHIN_S
    while not {node.node_id for node in nodes} <= set(cluster.global_state._live_node_ids()):  # noqa: SLF001 - as it does
        if time.monotonic() > until_s:
            raise TimeoutError(f"not all of {nodes} have joined")
        time.sleep(0.1)


def seen(status: dict[str, Any]) -> dict[str, Any]:
    """Where everybody is, and how."""
    from tests.cluster.conftest import actors

    return {
        name: {
            "node": row["node"] and row["node"]["id"],
            "labels": row["node"] and {k: v for k, v in row["node"]["labels"].items() if k != OF_ONE_NODE},
            **{key: row[key] for key in ("state", "reason", "restarts", "place")},
        }
        for name, row in actors(status).items()
    }


def drain(running: Any, node: str, step: Callable[[str], None]) -> dict[str, Any]:
    """Have the node of an account drained, and see for how long each book of it is not verified, and the node's end."""
    import ray

    from supervisor.changes.requests import ChangeRefused
    from tests.cluster.conftest import all_verified, instruments, until

    try:
        drained = running.drain(node)
    except ChangeRefused as refused:
        return {"refused": str(refused)}
    oldest_s = 0.0

    def over(status: dict[str, Any]) -> bool:
        nonlocal oldest_s
        ages = [row["health"]["verified_age_s"] for row in instruments(status).values()]
        oldest_s = max([oldest_s, *(age for age in ages if age is not None)])
        return all_verified(status) and all(row["node"] != node for row in seen(status).values())

    status = until(running, over, "it is empty")
    step(f"the node is empty; no book was unverified for longer than {oldest_s:.1f} s")
    nodes: Any = ray.nodes  # it has no types
    until(running, lambda _: node not in {row["NodeID"] for row in nodes() if row["Alive"]}, "it ends")
    step("and has ended")
    return {"drained": node, "moves": drained.moves, "moved": seen(status), "oldest_s": oldest_s}


def upgrade(running: Any, path: Path, step: Callable[[str], None]) -> dict[str, Any]:
    """Everybody's version and node, after the installation in the working directory became the next one."""
    from tests.cluster.conftest import actors, all_verified, until
    from tests.cluster.next_version import command, install_the_next

    install_the_next(Path.cwd())
    done = command(Path.cwd(), "apply", "--rolling", str(path))
    step(f"apply --rolling ended with {done.returncode}: {done.stdout}{done.stderr}")
    status = until(running, all_verified, "everything is in step")
    programs = {name: row["program"] for name, row in actors(status).items()}
    programs["supervisor"] = status["supervisor"]["program"]
    return {"status": done.returncode, "programs": programs, "upgraded": seen(status)}


def main(directory: Path, seed: int, how: str) -> None:
    """Come up, lose a machine, go on without it, and be whole again when it is back."""
    began_s = time.monotonic()
    prepare(Address(f"{LOOPBACK}:0", os.environ["RAY_AUTH_MODE"]))
    from supervisor.client import processes
    from supervisor.config.loader import load
    from tests.cluster.conftest import all_verified, until

    def step(words: str) -> None:
        print(f"{time.monotonic() - began_s:.1f} s: {words}", file=sys.stderr, flush=True)

    with machines() as cluster:
        head = add_machine(cluster, HEAD)
        workers = {"plain": add_machine(cluster, PLAIN), "gateway": add_machine(cluster, GATEWAY)}
        joined(cluster, head, *workers.values())
        step("three machines")
        path = directory / "accounts.yaml"
        path.write_text(CONFIGURATION.format(address=cluster.address, directory=directory))
        with processes.started(load(path), detach=False, on_step=step) as running:
            found: dict[str, Any] = {"up": seen(until(running, all_verified, "everything comes up"))}
            if how == "upgraded":
                print(json.dumps(found | upgrade(running, path, step)))
                return
            which = random.Random(seed).choice(sorted(workers))  # noqa: S311 - which one is lost; nothing rests on it
            lost = workers[which]
            found |= {"which": which, "lost": lost.node_id}
            step(f"the {which} machine is lost: {how}")
            raylet = lost.all_processes["raylet"][0].process
            lost_s = time.monotonic()
            if how == "killed":
                cluster.remove_node(lost, allow_graceful=False)
            else:  # nothing of it answers the cluster any more, and its actors live on
                raylet.send_signal(signal.SIGSTOP)

            def over(status: dict[str, Any]) -> bool:
                """Whether those who can be elsewhere are up there, and those who cannot wait."""
                rows = seen(status)
                nowhere = {name for name in rows if which == "gateway" and name.partition("/")[0] == "cfd"}
                return all(
                    row["state"] == ("PENDING" if name in nowhere else "UP") and row["node"] != lost.node_id
                    for name, row in rows.items()
                )

            found["without"] = seen(until(running, over, "it goes on without it"))
            found["without_after_s"] = round(time.monotonic() - lost_s, 1)
            step(f"it goes on without it after {found['without_after_s']} s")
            if how == "silent":
                raylet.send_signal(signal.SIGCONT)  # it learns that it was given up, and ends
            labels = GATEWAY if which == "gateway" else PLAIN
            new = add_machine(cluster, labels)
            joined(cluster, new)
            found["new"] = new.node_id
            found["back"] = seen(until(running, all_verified, "everything is up"))
            step("everything is up")
            if how == "silent":
                found |= drain(running, found["back"]["fx"]["node"], step)
        step("ended")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
