"""What every test starts from: one thread under xdist, one seed, and the folder of real clips."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Keep each xdist worker to one thread: two OpenMP pools on two cores run three times slower than one thread."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random numbers and the same arithmetic, whatever ran before it."""
    import torch

    torch.manual_seed(0)
    # Training switches it on for good, and hypothesis refuses to draw floats without subnormal numbers.
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real clips ($EGOFLOW_DATA or ../shared/data beside the repository), or skip."""
    named = os.environ.get("EGOFLOW_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real clips are not at {folder}; set EGOFLOW_DATA to their folder")
    return folder
