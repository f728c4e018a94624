"""Whether a network is traced to be written as a file: some fast forms hold only for the size that they run at."""

import torch


def exporting() -> bool:
    """Say whether ``torch.export`` is tracing."""
    # Known by its own name from torch 2.7 on.
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()
