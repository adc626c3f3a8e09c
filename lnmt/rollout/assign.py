"""Which arm answers a request."""

from __future__ import annotations

import hashlib

from lnmt.rollout.deployment import Deployment
from lnmt.types import Arm


def assign(deployment: Deployment, key: str | None, draw: float) -> Arm:
    """The arm for a request with the stickiness `key`; without a key `draw`, uniform in [0, 1), decides.

    A key stays in its arm while the challenger stands, and growing the share moves keys to the
    challenger only, never back. The hash is salted with the model and the challenger, so that
    another experiment divides the keys anew.
    """
    if deployment.challenger is None:
        return "champion"
    place = draw if key is None else _place(deployment.name, deployment.challenger, key)
    return "challenger" if place < deployment.share else "champion"


def _place(name: str, challenger: str, key: str) -> float:
    """A number in [0, 1), uniform over keys: 53 bits of a sha256, as many as a float holds."""
    salted = hashlib.sha256(f"{name}\0{challenger}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(salted[:8], "big") >> 11) / 2**53
