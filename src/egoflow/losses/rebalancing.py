"""Networks that learn together progress together: weights of their losses by how far each has come. (Hariat 2023)

The branch that has progressed less weighs more: p_k = average of L_k / L_k at the end of warm-up, alpha_k = p_k / mean
p. This is the balancing of training rates of GradNorm (Chen 2018) without its second backward pass, and ours: the
paper's rule is not known. The networks share no weights, so it acts through their common pixels and the consistency of
both flows, where ``consistency.with_teacher`` balances the gradient pixel by pixel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The running mean of each branch's loss [K], and its value at the end of warm-up [K]; 0 where not yet known.

    A method keeps both in buffers, so that a checkpoint resumes to the bit.
    """

    average: Tensor
    start: Tensor

    @staticmethod
    def unknown(branches: int, *, device: torch.device | str | None = None) -> "Progress":
        """Return the progress before the first loss."""
        return Progress(average=torch.zeros(branches, device=device), start=torch.zeros(branches, device=device))

    @torch.no_grad()
    def observed(self, losses: Tensor, *, keep: float = 0.99) -> "Progress":
        """Return the progress after a step with ``losses`` [K], which are positive; call it in warm-up too."""
        mixed = keep * self.average + (1 - keep) * losses
        return Progress(average=torch.where(self.average > 0, mixed, losses), start=self.start)

    def warmed_up(self) -> "Progress":
        """Return the progress measured from here; call it once, where joint training begins."""
        return Progress(average=self.average, start=self.average)

    def weights(self, *, gamma: float = 1.0, least: float = 0.25, most: float = 4.0) -> Tensor:
        """Return the factors alpha [K] of the losses: (p / mean p)^gamma, normalised to the sum K, then clipped.

        ``gamma`` 0 turns it off. All 1 before the end of warm-up.
        """
        known = self.start > 0
        progress = torch.where(known, self.average / torch.where(known, self.start, torch.ones_like(self.start)),
                               torch.ones_like(self.start))
        ratio = (progress / progress.mean().clamp_min(1e-12)).pow(gamma)
        return (ratio * (ratio.numel() / ratio.sum().clamp_min(1e-12))).clamp(least, most)
