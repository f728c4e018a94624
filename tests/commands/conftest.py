"""A trained run, made once: two steps are enough to be one."""

from pathlib import Path

import pytest

from commands.clips import SMALL, image_folder
from egoflow.cli import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Return a run folder of sfmlearner:tiny."""
    folder = tmp_path_factory.mktemp("trained")
    clip = image_folder(folder / "clip")
    words = ["train", "sfmlearner:tiny", "--data", str(clip), "--out", str(folder / "run")]
    assert main([*words, "--set", *SMALL, "loop.steps=2"]) == 0
    return folder / "run"
