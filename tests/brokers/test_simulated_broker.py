"""A simulated account promises whatever its adapter promises."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, cast

import pytest

from brokers import port
from brokers.port import OPTIONAL_PROTOCOLS, Broker, Vouching, Watched
from brokers.registry import KINDS, SimulatedBroker, open_broker, utc_now
from brokers.simulators.demonstration import Demonstration
from brokers.simulators.mt5 import Mt5Simulator
from brokers.spec import BrokerSpec, SecretRef, SecretSource

SECRETS = ("token", "api_key", "access_token")


def spec_of(kind: str, state_dir: Path) -> BrokerSpec:
    secrets = {key: SecretRef(SecretSource.DEMONSTRATION, kind, key) for key in SECRETS}
    return BrokerSpec(kind, kind, 5.0, secrets=secrets, simulated=True, state_dir=str(state_dir))


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_every_protocol_of_the_port_that_is_asked_for_at_run_time_is_passed_on() -> None:
    """One that is not in the list would be lost to every simulated account."""
    written = {
        node.name
        for node in ast.parse(inspect.getsource(port)).body
        if isinstance(node, ast.ClassDef) and "runtime_checkable" in map(ast.unparse, node.decorator_list)
    }
    assert written == {protocol.__name__ for protocol in OPTIONAL_PROTOCOLS}
    assert {Watched, Vouching} <= set(OPTIONAL_PROTOCOLS)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_simulated_account_meets_just_what_its_adapter_meets(kind: str, tmp_path: Path) -> None:
    simulated = open_broker(spec_of(kind, tmp_path), lively=False)
    assert isinstance(simulated, SimulatedBroker)
    try:
        for protocol in OPTIONAL_PROTOCOLS:
            assert isinstance(simulated, protocol) == isinstance(simulated.adapter, protocol), protocol
    finally:
        await simulated.close()


@pytest.mark.parametrize("protocol", [Broker, *OPTIONAL_PROTOCOLS], ids=lambda protocol: str(protocol.__name__))
def test_every_member_of_every_protocol_is_passed_on(protocol: type) -> None:
    """Whatever an adapter answers there, a simulated account answers."""
    own = {name: object() for name in members(Broker) | members(protocol)}
    adapter = cast("Broker", type("Adapter", (), own)())
    simulated = SimulatedBroker.around(adapter, cast("Any", None), cast("Any", None))
    for name in members(protocol) - {"close"}:
        assert getattr(simulated, name) is own[name], name
    assert protocol is Broker or isinstance(simulated, protocol)


async def test_a_simulated_ib_is_watched(tmp_path: Path) -> None:
    """At rest it need not be asked, as the real one need not."""
    simulated = open_broker(spec_of("ib", tmp_path), lively=False)
    try:
        await simulated.connect()
        await simulated.snapshot(None)
        stream = simulated.stream()
        assert stream is not None
        stream.start(lambda _: None)
        await simulated.snapshot(None)
        assert isinstance(simulated, Watched)
        assert simulated.undisturbed() is not None
    finally:
        await simulated.close()


async def test_a_simulated_mt5_says_what_is_unproven(tmp_path: Path) -> None:
    kind = KINDS["mt5"]
    spec = BrokerSpec("m", "mt5", 5.0, {"login": 7}, simulated=True, state_dir=str(tmp_path))
    simulator = Mt5Simulator(login=7, base_only=True)
    demonstration = Demonstration(
        simulator, kind.instruments, kind.conventions.legs, cast("Any", None), lot=kind.lot, state_file=tmp_path / "s"
    )
    adapter = kind.adapter(spec, kind.serve(simulator), utc_now)
    simulated = SimulatedBroker.around(adapter, simulator, demonstration)
    try:
        await simulated.connect()
        assert isinstance(simulated, Vouching)
        assert "login 7 cannot be proven" in (simulated.unproven or "")
    finally:
        await simulated.close()
