"""Which clips make up a step: a pure function of seed and step, so that a resumed run sees what it would have seen."""

from collections.abc import Iterator

import torch


class StepSampler:
    """Yield, for every step from ``first`` to ``steps``, this process's share of the batch as (index, seed) keys.

    Each epoch is a fresh permutation of the ``size`` clips; a batch may run over the end of an epoch. The seed of an
    item decides its augmentation.
    """

    def __init__(self, *, size: int, batch: int, steps: int, first: int = 0, seed: int = 0, rank: int = 0,
                 world: int = 1) -> None:
        self.size, self.batch, self.steps, self.first = size, batch, steps, first
        self.seed, self.rank, self.world = seed, rank, world
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return max(self.steps - self.first, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.steps):
            positions = range(step * self.batch, (step + 1) * self.batch)
            yield [self._key(p) for p in positions][self.rank::self.world]

    def _key(self, position: int) -> tuple[int, int]:
        """Return the clip and the seed of the ``position``-th item since the start of training."""
        epoch, offset = divmod(position, self.size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.size, generator=generator)
        return int(self._order[offset]), self.seed * 1_000_000_007 + position
