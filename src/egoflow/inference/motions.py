"""Rigid motions of a long video, in little memory."""

from array import array

import numpy as np
import torch

from egoflow.geometry.se3 import SE3

_NUMBERS = 12


class Motions:
    """A list of motions, 96 bytes each: two small tensors take forty times as much, 40 MB in 10,000 frames."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def __len__(self) -> int:
        """Return the number of motions."""
        return len(self._numbers) // _NUMBERS

    def append(self, motion: SE3) -> None:
        """Add an unbatched motion."""
        self._numbers.extend(torch.cat((motion.R.flatten(), motion.t)).tolist())

    def stacked(self) -> SE3:
        """Return all motions [N] in float64."""
        numbers = torch.from_numpy(np.array(self._numbers, np.float64).reshape(-1, _NUMBERS))
        return SE3(numbers[:, :9].reshape(-1, 3, 3), numbers[:, 9:])
