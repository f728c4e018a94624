"""What it costs a network to declare pixels unexplainable: its mask's cross-entropy with 1. (Zhou 2017, section 3.3)"""

import torch.nn.functional as F
from torch import Tensor


def explainability_map(weight: Tensor) -> Tensor:
    """Return -log(weight) of a soft mask in [0, 1] of any shape: 0 for full trust, ln 2 for one half.

    A weight of 0 costs 27.6 and has no gradient; train on logits where they are at hand.
    """
    return -weight.clamp_min(1e-12).log()


def explainability_map_of_logits(logits: Tensor) -> Tensor:
    """Return -log sigmoid(logits) of any shape: ln 2 for logits of 0, exact however large they are."""
    return F.softplus(-logits)


def logits_of_pairs(pairs: Tensor) -> Tensor:
    """Return the logits [B, S, H, W] of two-channel softmax masks [B, 2 S, H, W] whose second channel means trust.

    softmax((a, b)) trusts with sigmoid(b - a), so uniform logits cost ln 2. (Zhou 2017, released code)
    """
    distrust, trust = pairs.unflatten(1, (-1, 2)).unbind(2)
    return trust - distrust
