"""The true flow of clips at working size, computed or read once and kept in memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from egoflow.geometry.pixels import resize_mask, resize_true_flow
from egoflow.types import FlowSource, FrameSource, Pair

BYTES_A_PIXEL = 10
"""Of two float32 of flow and of two masks."""


class TrueFlowCache:
    """What sources know of the flow of pairs of their frames, kept until ``most_bytes`` are used.

    A made scene is asked for its layers' edges anew each time, which takes longer than a training step of a small
    network.
    """

    def __init__(self, sources: Sequence[FrameSource], *, height: int, width: int, most_bytes: int) -> None:
        self.sources, self.height, self.width = sources, height, width
        self._room = most_bytes // (BYTES_A_PIXEL * height * width)
        self._kept: dict[tuple[int, int, int], dict[str, Tensor]] = {}

    def of(self, source: int, window: Sequence[int], pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return the fields ``flow``, ``valid_flow`` and ``visible`` of the truth of a clip of frames ``window``."""
        found: dict[str, dict[Pair, Tensor]] = {"flow": {}, "valid_flow": {}, "visible": {}}
        for a, b in pairs:
            for name, value in self._pair(source, window[a], window[b]).items():
                found[name][a, b] = value
        return found

    def _pair(self, number: int, a: int, b: int) -> dict[str, Tensor]:
        """Return what a source knows of the flow from frame ``a`` to frame ``b``; nothing where it knows none."""
        key = number, a, b
        if key not in self._kept:
            found = self._asked(self.sources[number], a, b)
            if len(self._kept) >= self._room:
                return found
            self._kept[key] = found
        return self._kept[key]

    def _asked(self, source: FrameSource, a: int, b: int) -> dict[str, Tensor]:
        """Return what a source says when it is asked, on the grid of the images."""
        truth = source.flow_truth(a, b) if isinstance(source, FlowSource) else None
        if truth is None:
            return {}
        size = {"height": self.height, "width": self.width}
        flow, valid = (torch.from_numpy(v)[None] for v in (truth.flow_ab, truth.valid[None]))
        flow, valid = resize_true_flow(flow, valid, **size)
        found = {"flow": flow, "valid_flow": valid}
        if truth.visible is not None:
            found["visible"] = resize_mask(torch.from_numpy(truth.visible)[None, None], **size)
        return found
