"""Every defect is named for what it is, and what is right passes."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from doctor.footage import drive, hand_held
from egoflow.data.cameras import parse_camera
from egoflow.data.formats import write_image
from egoflow.data.open import continuous_runs, open_source
from egoflow.doctor.diagnosis import diagnose, training_size, unbroken
from egoflow.doctor.intrinsics import assumed_camera, camera_findings, centred
from egoflow.doctor.motion import most_movers
from egoflow.doctor.pairs import usual_motion, usually_unmoved
from egoflow.doctor.survey import survey
from egoflow.errors import DataError
from egoflow.types import FrameSource
from egoflow.worlds.base import load_world
from egoflow.worlds.defects import DEFECTS, Altered, Kept, with_noise

HOPELESS = {"static", "rotation", "plane"}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_named(name: str) -> None:
    make, expected = DEFECTS[name]
    clip = Kept(make(1, drive(1)))
    found = diagnose(clip, camera=clip.camera)
    assert found.names() == [expected]
    assert found.verdict == ("cannot" if name in HOPELESS else "usable")
    told = next(finding for finding in found.findings if finding.name == expected)
    assert told.text
    assert told.remedy
    assert "\n" not in told.text + told.remedy


@pytest.mark.parametrize("clip", [drive, hand_held])
def test_what_is_right_passes(clip: object) -> None:
    source = clip(1)  # type: ignore[operator]
    found = diagnose(source, camera=source.camera)
    assert found.names() == []
    assert found.verdict == "good"
    json.dumps(found.json(), allow_nan=False)


@pytest.mark.parametrize("noise", [0, 8])
def test_noise_and_drifting_light_are_no_motion(noise: float, shared_data: object) -> None:
    real = open_source(f"{shared_data}/kitti-raw-static-416x128")
    clip = Altered([(real, i) for i in range(len(real))], name="static", change=with_noise(noise, 0) if noise else None)
    found = diagnose(clip, camera=clip.camera)
    assert (found.names(), found.verdict) == (["static"], "cannot")


def test_noise_does_not_stop_a_drive() -> None:
    clip = Altered([(drive(1), i) for i in range(len(drive(1)))], name="noisy", change=with_noise(8, 0))
    assert diagnose(Kept(clip), camera=clip.camera).verdict == "good"


def test_slow_footage_is_trained_on_with_a_gap() -> None:
    """A fifth of the speed needs frames that are farther apart."""
    fast, slow = (Kept(load_world("boxes", seed=1, frames=30, height=128, width=192, speed=speed, texture_ratio=1.0))
                  for speed in (5.0, 1.0))
    gaps = [diagnose(clip, camera=clip.camera).gap for clip in (fast, slow)]
    assert gaps[1] >= 4 * gaps[0]


def test_a_clip_that_waits_can_teach_what_moves() -> None:
    """Two thirds of the frames stand at a red light."""
    order = [*range(8), *[8] * 40, *range(9, 22)]
    clip = Kept(Altered([(drive(1), i) for i in order], name="waits", change=with_noise(2.0, 0)))
    found = diagnose(clip, camera=clip.camera)
    assert found.verdict == "good"
    assert [finding.name for finding in found.findings] == ["pauses"]
    assert set(found.survey.still) == set(range(9, 48))
    assert found.gap <= 2


@pytest.mark.parametrize("times", [2, 3])
def test_frames_that_come_twice_or_thrice_are_named(times: int) -> None:
    order = [(drive(1), i // times) for i in range(times * 20)]
    clip = Kept(Altered(order, name="telecine", change=with_noise(1.0, 0)))
    found = diagnose(clip, camera=clip.camera)
    assert found.names() == ["repeats"]
    assert set(found.survey.repeats) == {i for i in range(times * 20) if i % times}


def test_a_covered_lens_is_no_rotation() -> None:
    dark = Altered([(drive(1), 0)] * 24, name="dark", change=lambda image, index: image // 100)
    found = diagnose(Kept(Altered([(dark, i) for i in range(24)], name="dark", change=with_noise(1.0, 0))),
                     camera=drive(1).camera)
    assert found.verdict == "cannot"
    assert "rotation" not in found.names()


def test_broken_frames_are_counted_and_passed_over() -> None:
    def broken(image: np.ndarray, index: int) -> np.ndarray:
        if index in (5, 6):
            raise DataError(f"frame {index} is broken")
        return image

    clip = Altered([(drive(1), i) for i in range(len(drive(1)))], name="broken", change=broken)
    found = diagnose(clip, camera=clip.camera)
    assert found.survey.broken == (5, 6)
    assert [finding.name for finding in found.findings] == ["broken"]
    assert found.verdict == "good"


@pytest.mark.parametrize("count", [1, 2, 6])
def test_short_clips_say_so(count: int) -> None:
    clip: FrameSource = Altered([(drive(1), i) for i in range(count)], name="short")
    found = diagnose(clip, camera=clip.camera)
    assert "short" in found.names()
    assert found.verdict == ("usable" if count > 2 else "cannot")


def test_frames_too_small_to_see_anything_say_so() -> None:
    clip = Kept(load_world("boxes", seed=0, frames=20, height=12, width=40, speed=5.0))
    found = diagnose(clip, camera=clip.camera)
    assert found.verdict == "cannot"
    assert (found.findings[0].name, found.findings[0].text) == ("size", "frames of 12x40 show too little")


def test_without_a_camera_the_doctor_says_what_it_sees() -> None:
    seen, unseen = hand_held(1), hand_held(1, turn_deg=0.0)
    told = diagnose(seen, camera=None).findings
    assert [finding.name for finding in told] == ["no_camera"]
    assert "suggests a focal length" in told[0].text
    told = diagnose(unseen, camera=None).findings
    assert "does not show it" in told[0].text


@pytest.mark.parametrize(("native", "size"), [
    ((375, 1242), (64, 224)), ((480, 640), (96, 128)), ((128, 416), (64, 192)), ((1920, 1080), (160, 96)),
    ((64, 96), (64, 96))])
def test_the_size_to_train_at_keeps_the_shape(native: tuple[int, int], size: tuple[int, int]) -> None:
    found = training_size(*native)
    assert found == size
    assert found[0] % 32 == found[1] % 32 == 0
    assert found[1] / found[0] == pytest.approx(native[1] / native[0], rel=0.2)


def test_a_plane_has_no_focal_length_anywhere() -> None:
    found = diagnose(Kept(DEFECTS["plane"][0](2, drive(1))), camera=None)
    assert found.findings[0].name == "plane"
    assert not found.focal.observable
    assert found.json()["focal"]["focal_px"] is None
    assert found.suggested_camera().startswith("fov=")
    told = next(finding for finding in found.findings if finding.name == "no_camera")
    assert "does not show it: of one plane" in told.text


def test_a_suggested_focal_length_keeps_the_axis_that_is_known() -> None:
    clip = hand_held(0)
    wrong = replace(clip.camera, fx=clip.camera.fx * 2, fy=clip.camera.fy * 2, cx=clip.camera.cx + 3.25)
    found = diagnose(clip, camera=wrong)
    assert found.contradicts_camera()
    suggested = parse_camera(found.suggested_camera(), height=160, width=240)
    assert float(suggested.fx) == pytest.approx(120, rel=0.08)
    assert (float(suggested.cx), float(suggested.cy)) == (float(wrong.cx), float(wrong.cy))
    # Of pixels that are not square no focal length is estimated.
    flat = replace(found, camera=replace(wrong, fy=wrong.fy / 2))
    assert not flat.contradicts_camera()


def test_nothing_is_painted_over_in_a_clip_that_is_blurred() -> None:
    """Far things hardly change where all is out of focus; what would be painted over is what is told."""
    clip = DEFECTS["overlay"][0](1, DEFECTS["blur"][0](1, drive(1)))
    found = diagnose(Kept(clip), camera=clip.camera)
    assert "blur" in found.names()
    assert "overlay" not in found.names()
    assert found.fixed is not None
    assert not found.fixed.any()
    motion, unmoved = (of(found.pairs, gap=found.gap) for of in (usual_motion, usually_unmoved))
    assert motion is not None
    assert unmoved is not None
    assert found.survey.fixed.structure(motion, unmoved).any(), "the writing was seen"


@pytest.mark.parametrize(("changes", "said"), [
    ({"fx": 3000.0, "fy": 3000.0}, "a field of view of 7 degrees"), ({"fy": 300.0}, "fx / fy = 0.67"),
    ({"cx": 60.0}, "its axis meets the image at column 60, row 64 of 128x384")])
def test_a_camera_that_no_lens_has_is_told(changes: dict[str, float], said: str) -> None:
    camera = replace(parse_camera("200,200,191.5,63.5", height=128, width=384),
                     **{name: torch.tensor([value]) for name, value in changes.items()})
    unknown: Any = SimpleNamespace(observable=False, bounded=False, reason="")
    [found] = camera_findings(camera, unknown, survey(drive(1)))
    assert found.name == "wrong_camera"
    assert said in found.text


def test_the_axis_of_a_stand_in_is_that_of_the_picture_between_bars() -> None:
    stand_in = parse_camera("fov=60", height=720, width=1280)
    assert centred(stand_in, (0, 0, 0, 0)) == stand_in
    moved = centred(stand_in, (0, 144, 20, 0))
    assert (float(moved.cx), float(moved.cy)) == (20 + 1259 / 2, 575 / 2)
    assert float(moved.fx) == float(stand_in.fx)


def test_no_pair_lies_across_a_cut_or_a_gap() -> None:
    shots, runs = [range(10), range(10, 30)], [range(4), range(4, 14), range(14, 30)]
    assert unbroken(shots, runs) == [range(4), range(4, 10), range(10, 14), range(14, 30)]


def test_frames_of_which_no_three_follow_one_another_teach_nothing(tmp_path: Path) -> None:
    """Numbered in pairs: 0 1, 10 11, 20 21, …"""
    clip = hand_held(0)
    for k in range(12):
        write_image(tmp_path / f"{10 * (k // 2) + k % 2:06d}.png", clip.image(k))
    source = open_source(tmp_path, camera="fov=90")
    found = diagnose(source, camera=None, runs=continuous_runs(source))
    assert found.verdict == "cannot"
    assert found.findings[0].name == "short"
    assert "no 3 frames follow one another" in found.findings[0].text


def test_an_assumed_camera_fills_what_bars_leave_of_the_frame() -> None:
    # A phone's upright picture between black bars: 65 degrees over its 1080 rows.
    found: Any = SimpleNamespace(height=1080, width=1920, bars=lambda: (0, 0, 656, 656))
    camera = parse_camera(assumed_camera(found), height=1080, width=1920)
    assert float(camera.fx) == pytest.approx(540 / np.tan(np.radians(65 / 2)), rel=0.02)
    assert (float(camera.cx), float(camera.cy)) == (959.5, 539.5)
    found.bars = lambda: (0, 0, 0, 0)
    assert assumed_camera(found) == "fov=65"


def test_slow_movers_show_between_frames_farther_apart() -> None:
    def seen(gap: int, share: float, *, pairs: int = 16, usable: float = 0.8) -> tuple[Any, list[Any]]:
        # Pairs that stand still find everything again, and tell nothing.
        still = [SimpleNamespace(gap=gap, movers=float("nan"), usable=1.0)] * 20
        return SimpleNamespace(gap=gap), [SimpleNamespace(gap=gap, movers=share, usable=usable)] * pairs + still

    def most(*seen_at: tuple[Any, list[Any]], chosen: int = 0) -> tuple[float, int]:
        gaps = [gap for gap, _ in seen_at]
        return most_movers([pair for _, pairs in seen_at for pair in pairs], gaps, gaps[chosen])

    assert most(seen(1, 0.04), seen(2, 0.08), seen(4, 0.2)) == (0.2, 4)
    # Where little is found again, or in few pairs, errors of flow look the same.
    assert most(seen(1, 0.04), seen(2, 0.5, usable=0.3), seen(4, 0.4, pairs=3)) == (0.04, 1)
    assert most(seen(1, 0.04, usable=0.4), seen(2, 0.3, usable=0.3), chosen=1) == (0.3, 2)
