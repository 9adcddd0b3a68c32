"""Where a cluster is. Apart from :mod:`actors.ray_edge`, so that asking for it does not import Ray."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """``gcs`` is host:port of the cluster; ``auth_mode`` is Ray's ``RAY_AUTH_MODE`` there, ``None`` where unset."""

    gcs: str
    auth_mode: str | None
