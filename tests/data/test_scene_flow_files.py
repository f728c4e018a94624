"""Files of scene flow: what is written is read back to the bit, from both formats, and damage is one line."""

from pathlib import Path

import numpy as np
import pytest

from egoflow.data.formats import write_npz, write_pfm
from egoflow.data.scene_flow import read_scene_flow, write_scene_flow
from egoflow.errors import DataError

FLOW = np.random.default_rng(0).normal(0, 2, (5, 7, 3)).astype(np.float32)


def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    valid = np.random.default_rng(1).random((5, 7)) < 0.7
    spoilt = np.where(valid[..., None], FLOW, np.nan)
    write_scene_flow(tmp_path / "a.npz", spoilt, valid)
    write_scene_flow(tmp_path / "nan.npz", spoilt)
    for name in ("a.npz", "nan.npz"):
        flow, known = read_scene_flow(tmp_path / name)
        assert flow.dtype == np.float32
        assert np.array_equal(known, valid)
        assert np.array_equal(flow, np.where(valid[..., None], FLOW, 0))
    write_scene_flow(tmp_path / "all.npz", FLOW)
    assert read_scene_flow(tmp_path / "all.npz")[1].all()


def test_a_pfm_of_three_channels_is_scene_flow(tmp_path: Path) -> None:
    far = FLOW.copy()
    far[0, 0, 2], far[1, 1, 0] = 1e10, np.nan
    write_pfm(tmp_path / "a.pfm", far)
    flow, known = read_scene_flow(tmp_path / "a.pfm")
    assert np.argwhere(~known).tolist() == [[0, 0], [1, 1]]
    assert np.array_equal(flow[known], FLOW[known])


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    write_pfm(tmp_path / "grey.pfm", FLOW[..., 0])
    write_npz(tmp_path / "other.npz", flow=FLOW)
    write_npz(tmp_path / "flat.npz", scene_flow=FLOW[..., :2])
    write_npz(tmp_path / "odd.npz", scene_flow=FLOW, valid=np.ones((2, 2), bool))
    (tmp_path / "text.npz").write_text("no archive")
    for name, message in (("grey.pfm", r"\[H, W, 3\], found"), ("other.npz", "'flow'"), ("flat.npz", "5, 7, 2"),
                          ("odd.npz", "'valid' is"), ("text.npz", "not a readable"), ("a.flo", "expected scene flow"),
                          ("none.npz", "no such file")):
        with pytest.raises(DataError, match=message) as refused:
            read_scene_flow(tmp_path / name)
        assert name in str(refused.value)
    with pytest.raises(DataError, match="to write"):
        write_scene_flow(tmp_path / "b.npz", FLOW[..., 0])
    assert not (tmp_path / "b.npz").exists()
