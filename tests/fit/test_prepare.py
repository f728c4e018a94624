"""Footage made ready: the same bytes twice, no frame of two shots, nothing that stands still."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from doctor.footage import drive
from egoflow.data.formats import read_image
from egoflow.data.open import FrameSlice, open_source
from egoflow.doctor.diagnosis import Diagnosis, diagnose
from egoflow.doctor.survey import still_frames
from egoflow.errors import ConfigError, DataError
from egoflow.fit.prepare import prepare
from egoflow.types import FrameSource
from egoflow.worlds.defects import DEFECTS, Altered, Kept, with_noise


@cache
def examined(defect: str) -> tuple[FrameSource, Diagnosis]:
    """Return a drive with a defect, and what the doctor says of it: that takes seconds."""
    clip = Kept(DEFECTS[defect][0](1, drive(1)))
    return clip, diagnose(clip, camera=clip.camera)


def prepared(source: FrameSource, folder: Path):  # noqa: ANN201
    return prepare(source, diagnose(source, camera=source.camera), folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_footage_gives_the_same_bytes(tmp_path: Path) -> None:
    clip, diagnosis = examined("cut")
    one, two = prepare(clip, diagnosis, tmp_path / "one"), prepared(clip, tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert [path.name for path in one.clips] == ["000", "001"]
    assert one.frames == two.frames == len(clip)
    # Each shot is a clip of its own, with the frames of that shot alone.
    halves = [open_source(path) for path in one.clips]
    middle = len(drive(1)) // 2
    assert [len(half) for half in halves] == [len(clip) - middle, middle]
    assert np.array_equal(halves[0].image(0), drive(1).image(middle))
    assert np.array_equal(halves[1].image(2), drive(1).image(2))
    np.testing.assert_allclose(halves[1].time_s, np.asarray(clip.time_s)[-middle:] - clip.time_s[-middle], atol=1e-9)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    clip, diagnosis = examined("cut")
    prepare(clip, diagnosis, tmp_path)
    (tmp_path / "000" / "image" / "000003.png").write_bytes(b"mine")
    before = files(tmp_path / "001")
    shutil.rmtree(tmp_path / "001")
    prepare(clip, diagnosis, tmp_path)
    assert (tmp_path / "000" / "image" / "000003.png").read_bytes() == b"mine"
    assert files(tmp_path / "001") == before


def test_a_folder_of_another_clip_is_refused(tmp_path: Path) -> None:
    one, other = (Altered([(drive(1), i) for i in order], name="clip") for order in (range(20), range(3, 23)))
    prepared(one, tmp_path)
    with pytest.raises(ConfigError, match="000: holds other frames than those of clip"):
        prepared(Altered([(other, i) for i in range(19)], name="clip"), tmp_path)


def test_bars_are_cut_off_and_the_camera_goes_along(tmp_path: Path) -> None:
    clip = Kept(DEFECTS["letterbox"][0](1, drive(1)))
    found = prepared(clip, tmp_path)
    bar, (height, width) = max(2, clip.camera.height // 10), (clip.camera.height, clip.camera.width)
    assert found.window == (bar, 0, height - 2 * bar, width)
    ready = open_source(found.clips[0])
    assert np.array_equal(ready.image(4), drive(1).image(4)[bar:-bar])
    assert float(ready.camera.cy) == pytest.approx(float(clip.camera.cy) - bar)


def test_a_bonnet_is_cut_off_and_writing_painted_over(tmp_path: Path) -> None:
    clip = Kept(DEFECTS["bonnet"][0](1, drive(1)))
    found = prepared(clip, tmp_path / "bonnet")
    assert 0.8 * clip.camera.height < found.window[2] < 0.9 * clip.camera.height
    clip = Kept(DEFECTS["overlay"][0](1, drive(1)))
    found = prepared(clip, tmp_path / "overlay")
    assert found.window == (0, 0, clip.camera.height, clip.camera.width)
    written = (clip.image(3) != drive(1).image(3)).any(2)
    ready = open_source(found.clips[0]).image(3)
    error, before = (np.abs(v.astype(float) - drive(1).image(3))[written].mean() for v in (ready, clip.image(3)))
    assert error < 0.6 * before


def test_repeats_and_still_runs_are_left_out(tmp_path: Path) -> None:
    order = [*range(10), *[10] * 12, *range(11, len(drive(1)))]
    clip = Kept(Altered([(drive(1), i) for i in order], name="waits", change=with_noise(1.0, 0)))
    found = prepared(clip, tmp_path)
    assert found.dropped == {"still": 11}
    assert found.frames == len(drive(1))


def test_runs_count_and_single_quiet_frames_do_not() -> None:
    change = np.full(40, 1.0)
    change[[5, 6, 7]] = 0.01
    assert still_frames(change) == ()
    change[10:20] = 0.05
    assert still_frames(change) == tuple(range(11, 21))
    change[30] = np.nan
    assert still_frames(change) == tuple(range(11, 21))
    assert still_frames(np.zeros(0)) == ()


def test_large_frames_are_made_smaller(tmp_path: Path, shared_data: Path) -> None:
    real = FrameSlice(open_source(shared_data / "kitti-raw-moving-91"), range(14))
    found = prepared(real, tmp_path)
    image = read_image(found.clips[0] / "image" / "000000.png")
    assert image.shape == (256, 848, 3)
    ready = open_source(found.clips[0]).camera
    assert float(ready.fx) / 848 == pytest.approx(float(real.camera.fx) / 1242, rel=1e-3)


def test_shots_that_are_too_short_are_refused(tmp_path: Path) -> None:
    clip = Altered([(drive(1), i) for i in range(6)], name="brief")
    with pytest.raises(DataError, match="brief: no shot of 12 frames is left"):
        prepared(clip, tmp_path)
    assert not any(tmp_path.iterdir())
