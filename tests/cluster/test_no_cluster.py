"""A process that has left its cluster starts no other one, whoever still asks for an actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray._private import auto_init_hook
from ray.exceptions import RaySystemError

from actors.runtime import ray_client, ray_cluster, ray_session
from actors.runtime.ports import ActorUnavailable
from actors.runtime.ray_errors import NoSuchActor
from actors.runtime.ray_places import ActorPlace


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Ray began by itself: it does where its users did not forbid it, as these tests do otherwise."""
    found: list[str] = []
    monkeypatch.setattr(auto_init_hook, "enable_auto_connect", True)
    monkeypatch.setattr(ray, "init", lambda *_, **__: found.append("ray.init"))
    ray_session.leave()  # whatever ran before in this process
    return found


@pytest.mark.parametrize("actor", ["supervisor", "fx", "fx/EUR_USD"])
def test_a_call_says_that_there_is_no_cluster(begun: list[str], actor: str) -> None:
    with pytest.raises(ActorUnavailable, match=f"{actor}.*not connected to a Ray cluster"):
        ray_client.Client("nobody").call(actor, "pid", timeout_s=5.0)
    assert begun == []


def test_that_an_actor_is_gone_is_not_known_without_a_cluster(begun: list[str]) -> None:
    assert not ray_client.is_gone("supervisor", "nobody", 5.0)
    assert begun == []


def test_nothing_is_ended_without_a_cluster(begun: list[str]) -> None:
    with pytest.raises(ConnectionError, match="supervisor was not ended: this process is not connected"):
        ray_cluster.kill("supervisor", "nobody")
    assert begun == []


LEFT: dict[str, Callable[[Any], object]] = {
    "one call": lambda place: place.send("fx/EUR_USD", "pid", ()),
    "several calls": lambda place: place.send_many("fx/EUR_USD", "pid", [(), ()]),
}


@pytest.mark.parametrize("cell", [None, "fx~1"])
@pytest.mark.parametrize("name", LEFT)
def test_a_handle_that_outlives_its_cluster_begins_no_other(begun: list[str], name: str, cell: str | None) -> None:
    class Handle:
        """As Ray's: it begins a cluster wherever none is connected."""

        def __getattr__(self, method: str) -> Any:
            return self

        def remote(self, *args: object) -> None:
            auto_init_hook.auto_init_ray()  # type: ignore[no-untyped-call]  # Ray's

    with pytest.raises(RaySystemError, match="not connected"):
        LEFT[name](ActorPlace(Handle(), cell))  # what a client keeps of a cluster it has left
    assert begun == []


def test_a_lookup_that_its_caller_gave_up_ends_with_the_cluster(
    begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray answers it only after the process has left: it goes on to the cells of the account."""
    monkeypatch.setattr(ray_client, "handle_of", _nobody)
    with pytest.raises(ActorUnavailable, match="not connected"):
        ray_client.Client("nobody").call("fx/EUR_USD", "pid", timeout_s=5.0)
    assert begun == []


def _nobody(actor: str, namespace: str) -> Any:
    raise NoSuchActor(actor)
