"""The options with which actors are placed are ones that Ray takes; no cluster is started for that."""

from __future__ import annotations

from typing import Any

import pytest

from actors.runtime import ray_cluster
from actors.runtime.nodes import OF_ONE_NODE, Place, place_of

NODE = "ab" * 28
LABELS = {"zone": "a", "example.com/gateway": "true"}


@pytest.mark.parametrize(
    ("place", "node", "wanted"),
    [
        ((), None, {}),
        (place_of(LABELS), None, {"label_selector": LABELS}),
        (
            place_of(LABELS),
            NODE,
            {"label_selector": {**LABELS, OF_ONE_NODE: NODE}, "fallback_strategy": [{"label_selector": LABELS}]},
        ),
    ],
)
def test_ray_takes_the_options_that_place_an_actor(place: Place, node: str | None, wanted: dict[str, Any]) -> None:
    import ray

    class Placed:
        pass

    options = ray_cluster.placement(place, node)
    assert options == wanted
    actor: Any = ray.remote(Placed)
    actor.options(num_cpus=0, lifetime="detached", name="placed", **options)  # raises where Ray knows them not
    with pytest.raises(ValueError, match="label selector"):
        actor.options(label_selector={"zone": "-a"})
