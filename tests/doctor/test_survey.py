"""What one pass over the frames finds."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from doctor.footage import HEIGHT, WIDTH, drive
from egoflow.doctor.light import light_findings
from egoflow.doctor.overlays import FixedPixels
from egoflow.doctor.pairs import same_light, unmoved_pixels
from egoflow.doctor.survey import Survey, blurriness, repeated_frames, small_image, survey
from egoflow.worlds.base import load_world
from egoflow.worlds.defects import DEFECTS, Kept


def grey(index: int = 0) -> np.ndarray:
    return cv2.cvtColor(drive(1).image(index), cv2.COLOR_RGB2GRAY)


def test_blur_grows_with_blur_and_not_with_light() -> None:
    image = grey()
    values = [blurriness(cv2.GaussianBlur(image, (0, 0), s)) if s else blurriness(image) for s in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.3
    assert blurriness((image * 0.5).astype(np.uint8)) == pytest.approx(values[0], abs=0.03)
    assert blurriness(np.zeros((40, 40), np.uint8)) == 1.0


def test_the_pass_finds_the_very_frames() -> None:
    middle = len(drive(1)) // 2
    found = survey(DEFECTS["cut"][0](1, drive(1)))
    assert found.cuts == (len(drive(1)) - middle,)
    assert [len(shot) for shot in found.shots] == [len(drive(1)) - middle, middle]
    found = survey(DEFECTS["repeats"][0](1, drive(1)))
    assert found.repeats == tuple(range(3, found.count, 4))
    found = survey(DEFECTS["exposure"][0](1, drive(1)))
    assert found.jumps == tuple(range(8, found.count, 8))


def test_bars_are_measured_to_the_row() -> None:
    clip = DEFECTS["letterbox"][0](1, drive(1))
    bar = max(2, drive(1).camera.height // 10)
    assert survey(clip).fixed.bars() == (bar, bar, 0, 0)


def test_structure_is_found_where_it_is_written() -> None:
    moves = np.ones((HEIGHT, WIDTH))
    moves[:40, :200] = 0
    written, everywhere = survey(DEFECTS["overlay"][0](1, drive(1))).fixed, np.ones((HEIGHT, WIDTH), bool)
    found = written.structure(moves, everywhere)
    y, x = np.nonzero(found)
    assert x.max() < 0.5 * found.shape[1]
    assert y.max() < 0.35 * found.shape[0]
    assert found.any()
    assert not survey(drive(1)).fixed.structure(moves, everywhere).any()
    # Where images fit better along the flow nothing is fixed.
    assert not written.structure(moves, ~everywhere).any()


def test_a_camera_that_turns_back_repeats_no_frame() -> None:
    to_and_fro = np.abs(np.cos(2 * np.pi * np.arange(80) / 36))
    assert to_and_fro.min() < 0.1
    assert repeated_frames(to_and_fro, ()) == ()
    # Film of 10 frames a second in a file of 30: two of three steps stand still.
    assert repeated_frames(np.tile([1.0, 0.02, 0.03], 10), ()) == tuple(
        k for k in range(1, 31) if k % 3 != 1)
    # Fifteen in a file of thirty, of a camera that slows down by half and goes on.
    slower = np.array([1, 0, 1, 0, 0.6, 0, 0.6, 0, 1, 0, 1.0])
    assert repeated_frames(slower, ()) == (2, 4, 6, 8, 10)


def test_nothing_is_told_of_nothing() -> None:
    empty = FixedPixels.empty()
    assert empty.bars() == (0, 0, 0, 0)
    assert empty.structure(np.ones((1, 1)), np.ones((1, 1), bool)).size == 0
    empty.add(np.zeros((20, 30), np.uint8))
    empty.add(np.zeros((20, 30), np.uint8))
    assert empty.bars() == (0, 0, 0, 0)


def test_small_frames_keep_their_shape() -> None:
    assert small_image(np.zeros((512, 1000), np.uint8)).shape == (128, 250)
    assert small_image(np.zeros((100, 1000), np.uint8)).shape == (100, 1000)


def test_light_is_matched() -> None:
    image = grey()
    darker = np.rint(image * 0.6 + 20).astype(np.uint8)
    assert np.abs(same_light(darker, image).astype(float) - image).mean() < 1.0


def test_a_kerb_along_a_straight_road_is_no_bonnet() -> None:
    road = Kept(load_world("drive", seed=1, frames=20, height=64, width=192, samples=1))
    assert survey(road).fixed.bonnet() is None


def test_what_is_fixed_fits_as_it_is() -> None:
    random = np.random.default_rng(0)
    scene = cv2.GaussianBlur(random.uniform(0, 255, (60, 90)).astype(np.float32), (0, 0), 1.5)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    first, second = scene[:, 4:84].copy(), scene[:, :80].copy()
    first[20:40, 30:50] = second[20:40, 30:50] = scene[:20, :20]
    flow = np.zeros((60, 80, 2), np.float32)
    flow[..., 0] = 4.0
    stays = unmoved_pixels(first, second, flow)
    inside, outside = stays[22:38, 32:48].mean(), np.delete(stays[:, 10:76], slice(14, 46), axis=0).mean()
    assert inside == 1.0
    assert outside < 0.2


def test_one_crop_takes_bars_and_bonnet_off_and_is_even() -> None:
    """Of 81x121 frames six rows at the top, two columns at the left, and a bonnet from row 70 on are left out."""
    fixed: Any = SimpleNamespace(bonnet=lambda: 70, grey=np.zeros((1, 81, 121)))
    structure, rows = np.zeros((81, 121), bool), 81 - 70

    def told(bars: tuple[int, int, int, int]) -> list[tuple[str, str]]:
        found: Any = SimpleNamespace(fixed=fixed, scale=lambda: 1.0, bars=lambda: bars, height=81, width=121,
                                     blur=np.zeros(3), brightness=np.ones(3), repeats=(), jumps=(), count=30)
        found.window = lambda *, bonnet: Survey.window(found, bonnet=bonnet)
        return [(finding.text, finding.remedy) for finding in light_findings(found, fixed=structure)]

    (bars, crop), (bonnet, same) = told((6, 0, 2, 0))
    assert bars.startswith("plain bars")
    assert "crop=118:64:2:6:exact=1" in crop
    assert f"the lowest {rows} rows" in bonnet
    assert same == "the crop of the bars cuts it off too"
    (_, alone), = told((0, 0, 0, 0))
    assert alone == "cut it off: ffmpeg -i IN -vf crop=120:70:0:0:exact=1 OUT"
