"""The training values that the paper gives for each model."""

from __future__ import annotations

# section 3.1 and the official README
_WEIGHT_DECAY = {"s1": 0.025, "s2": 0.032, "s3": 0.035, "s4": 0.03}


def paper_weight_decay(name: str) -> float:
    """The paper's weight decay of a named design; variants take their base's, and designs of ours S1's."""
    return _WEIGHT_DECAY.get(name.split("_")[0], _WEIGHT_DECAY["s1"])
