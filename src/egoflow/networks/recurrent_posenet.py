"""The recurrent motion network of Lu & Lu: motion along a video, with a memory. (Lu 2019)

The paper's layers are not known beyond "recurrent". Ours: SfMLearner's trunk on each pair of neighbouring frames, its
mean over pixels, an LSTM of 256 and a linear layer. The memory is passed in and returned, never kept: clips that come
shuffled cannot leak into each other.
"""

import torch
from torch import Tensor, nn

from egoflow.networks.blocks import initialise, normalised
from egoflow.networks.posenet import WIDTHS, trunk

MEMORY = 256
State = tuple[Tensor, Tensor]
"""Output and cell of the LSTM, each [1, B, 256]."""


class RecurrentMotionNet(nn.Module):
    """Frames [B, N, 3, H, W] of a video, in order, to the N - 1 motions between neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(trunk(frames=2))
        self.memory = nn.LSTM(WIDTHS[-1], MEMORY, batch_first=True)
        self.motion = nn.Linear(MEMORY, 6)
        initialise(self)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return (tx, ty, tz, rx, ry, rz) [B, N - 1, 6] of each next_from_this and the state after the last step.

        Takes RGB in [0, 1], N >= 2; motions are already multiplied by 0.01. A ``state`` of None starts afresh; to go
        on, pass the one returned together with frames that begin with the last one seen (detached where gradients
        shall not run back into the steps before).
        """
        features = normalised(torch.cat((frames[:, :-1], frames[:, 1:]), dim=2).flatten(0, 1))
        for layer in self.down:
            features = layer(features)
        pooled = features.mean(dim=(2, 3)).unflatten(0, (frames.shape[0], -1))
        # Motions are small numbers that geometry multiplies by hundreds of pixels: full precision from here.
        with torch.autocast(pooled.device.type, enabled=False):
            remembered, after = self.memory(pooled.to(self.motion.weight.dtype), state)
            return 0.01 * self.motion(remembered), after
