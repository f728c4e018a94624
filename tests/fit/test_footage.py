"""A fit's footage: whose camera it is, what of it is learnt from, and that it is looked at once."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from doctor.footage import hand_held
from egoflow.data.cameras import parse_camera, write_camera
from egoflow.data.formats import write_image
from egoflow.data.open import continuous_runs, open_source
from egoflow.errors import DataError, WriteError
from egoflow.fit import examine as module
from egoflow.fit import footage as footage_module
from egoflow.fit.examine import Examined, camera_facts
from egoflow.fit.footage import gather, read_footage
from egoflow.fit.plan import read_plan
from egoflow.fit.teach import read_scores, stand_in_camera
from egoflow.types import FrameSource
from egoflow.worlds.base import load_world

TRUE_FOCAL_PX = 120.0


def filmed(folder: Path, source: FrameSource, *, frames: int | None = None, camera: bool = False) -> str:
    """Write a source as a folder of images, which knows nothing of its camera unless it is told."""
    for index in range(frames or len(source)):
        # One frame again and again is a camera that stands still.
        write_image(folder / f"{index:06d}.png", source.image(0 if frames else index))
    if camera:
        write_camera(folder / "camera.json", source.camera)
    return str(folder)


def test_the_focal_length_of_a_camera_that_turns_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = filmed(tmp_path / "hand", hand_held(0), camera=True)
    # Nor is a lens that the clip states taken: frames are examined as they are trained on.
    stated = json.loads((tmp_path / "hand" / "camera.json").read_text()) | {"distortion": [0.5, 0, 0, 0]}
    (tmp_path / "hand" / "camera.json").write_text(json.dumps(stated))
    found = gather([clip], camera="learn", frames=None, gap=None, out=tmp_path / "out")
    assert found.facts[0]["camera"]["from"] == "footage"
    learnt = parse_camera(found.facts[0]["camera"]["words"], height=160, width=240)
    assert float(learnt.fx) == pytest.approx(TRUE_FOCAL_PX, rel=0.05)
    low, high = found.facts[0]["focal"]["interval_px"]
    assert low <= float(learnt.fx) <= high
    # What is trained on and what is predicted have that camera, whatever the clip says.
    shot, out = found.shots[0], tmp_path / "out"
    for source in (open_source(out / shot.clip), shot.source(out)):
        assert float(source.camera.fx) == pytest.approx(float(learnt.fx), rel=1e-5)
    # It is looked at once.
    assert read_footage(tmp_path / "out") == found
    monkeypatch.setattr(module, "diagnose", lambda *args, **kwargs: pytest.fail("looked again"))
    assert gather([clip], camera="learn", frames=None, gap=None, out=tmp_path / "out") == found


def test_a_given_camera_that_cannot_be_right_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = filmed(tmp_path / "hand", hand_held(0))
    gather([clip], camera="fov=50", frames=None, gap=None, out=tmp_path / "out")
    assert "the camera's focal length is 257 px, but the footage turns as with 1" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "camera.json").read_text())["source"] == "the camera that was given"


def test_other_clips_are_straightened_as_this_one_was(tmp_path: Path) -> None:
    clip, out = filmed(tmp_path / "hand", hand_held(0)), tmp_path / "out"
    lens = tmp_path / "lens.json"
    write_camera(lens, hand_held(0).camera)
    plain = json.loads(lens.read_text())
    for stated, camera in ((plain | {"distortion": [0.02, 0, 0, 0]}, str(lens)), (plain, "long_fov=90.00")):
        lens.write_text(json.dumps(stated))
        gather([clip], camera=str(lens), frames=None, gap=None, out=out / camera[-4:])
        assert stand_in_camera(out / camera[-4:]) == camera


def test_on_a_rail_nothing_is_called_calibrated(tmp_path: Path) -> None:
    clip = filmed(tmp_path / "rail", hand_held(0, turn_deg=0.0))
    found = gather([clip], camera=None, frames=None, gap=None, out=tmp_path / "out")
    assert found.facts[0]["camera"] == {"from": "assumed", "words": "fov=65"}
    assert found.facts[0]["focal"]["focal_px"] is None
    assert "hardly turns" in found.facts[0]["focal"]["reason"]


def test_a_useless_clip_among_others_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = filmed(tmp_path / "still", hand_held(0), frames=14, camera=True)
    good = filmed(tmp_path / "good", hand_held(0), camera=True)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = str(tmp_path / "broken.mp4")
    found = gather([broken, still, good], camera=None, frames=None, gap=None, out=tmp_path / "out")
    assert [shot.facts for shot in found.shots] == [1]
    assert found.facts[1]["camera"]["from"] == "given"
    assert [about["verdict"] for about in found.facts][0] == "cannot"
    said = capsys.readouterr().err
    assert "still: left out: " in said
    assert f"left out: {broken}: not a readable video" in said
    with pytest.raises(DataError, match="still: cannot teach depth, nor can the 1 others: "):
        gather([still, still], camera=None, frames=None, gap=None, out=tmp_path / "none")
    for paths, message in (([broken], "broken.mp4: not a readable video"),
                           ([broken, broken], "none of the 2 sources can be opened; the first: .*broken.mp4: not a"),
                           ([good, "gone.mp4"], "gone.mp4: no such file or folder")):
        with pytest.raises(DataError, match=message):
            gather(paths, camera=None, frames=None, gap=None, out=tmp_path / "none")


def test_a_camera_that_is_found_is_of_its_own_clip_alone(tmp_path: Path) -> None:
    """Two clips of one folder; the axis that the first one's words name lies far outside the second one's frames."""
    small = load_world("boxes", seed=1, frames=22, height=64, width=96, speed=5.0, texture_ratio=1.0)
    for name, source in (("a", hand_held(0)), ("b", small)):
        filmed(tmp_path / "clips" / name / "image", source)
        write_camera(tmp_path / "clips" / name / "camera.json", source.camera)
    found = gather([str(tmp_path / "clips")], camera="learn", frames=None, gap=1, out=tmp_path / "out")
    assert [shot.source(tmp_path / "out").camera.width for shot in found.shots] == [240, 96]
    assert found.facts[0]["camera"]["from"] == "footage"


def test_a_gap_that_is_asked_for_decides_which_shots_are_long_enough(tmp_path: Path) -> None:
    clip = filmed(tmp_path / "hand", hand_held(0), camera=True)
    assert gather([clip], camera=None, frames=None, gap=2, out=tmp_path / "two").gap == 2
    with pytest.raises(DataError, match="no shot is long enough for a frame distance of 13"):
        gather([clip], camera=None, frames=None, gap=13, out=tmp_path / "far")


def test_pauses_do_not_make_a_shot_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 34 frames 12 stand still in the middle: 13 follow one another before them, and 8 after."""
    order, clip = [*range(14), *[13] * 12, *range(14, 22)], hand_held(0)
    for k, index in enumerate(order):
        write_image(tmp_path / "waits" / f"{k:06d}.png", clip.image(index))
    write_camera(tmp_path / "waits" / "camera.json", clip.camera)
    (found,) = gather([str(tmp_path / "waits")], camera=None, frames=None, gap=6, out=tmp_path / "six").shots
    assert len(found.frames) > 22
    with pytest.raises(DataError, match="no shot is long enough for a frame distance of 7"):
        gather([str(tmp_path / "waits")], camera=None, frames=None, gap=7, out=tmp_path / "seven")
    assert "too few of its 34 frames follow one another for a frame distance of 7" in capsys.readouterr().err


def test_a_frame_that_cannot_be_read_is_passed_over_in_the_middle_too(tmp_path: Path) -> None:
    clip, out, whole = tmp_path / "hand", tmp_path / "out", hand_held(0)
    filmed(clip, whole, camera=True)
    middle = len(whole) // 2
    (clip / f"{middle:06d}.png").write_bytes(b"no picture")
    (shot,) = gather([str(clip)], camera=None, frames=None, gap=1, out=out).shots
    assert middle not in shot.frames
    assert len(shot.source(out)) == len(whole) - 1
    # No clip of frames that is trained on goes across it.
    assert continuous_runs(open_source(out / shot.clip)) == [range(middle), range(middle, len(whole) - 1)]


def test_no_clip_of_frames_goes_across_one_that_is_missing(tmp_path: Path) -> None:
    clip, out, whole = tmp_path / "hand", tmp_path / "out", hand_held(0)
    filmed(clip, whole, camera=True)
    (clip / "000009.png").unlink()
    (shot,) = gather([str(clip)], camera=None, frames=None, gap=1, out=out).shots
    assert continuous_runs(open_source(out / shot.clip)) == [range(9), range(9, len(whole) - 1)]


def test_other_footage_under_the_same_name_is_refused(tmp_path: Path) -> None:
    clip, out = tmp_path / "hand", tmp_path / "out"
    filmed(clip, hand_held(0), camera=True)
    (shot,) = gather([str(clip)], camera=None, frames=None, gap=1, out=out).shots
    shot.source(out)
    whole, camera = len(hand_held(0)), (clip / "camera.json").read_text()
    (clip / "camera.json").write_text(json.dumps(json.loads(camera) | {"fx": 100.0}))
    footage_module._opened.cache_clear()
    with pytest.raises(DataError, match="hand: is no longer the footage that .*out was begun with.* lengths 100, 120 "):
        shot.source(out)
    (clip / "camera.json").write_text(camera)
    middle = clip / f"{whole // 2:06d}.png"
    picture = middle.read_bytes()
    write_image(middle, hand_held(1).image(whole // 2))
    footage_module._opened.cache_clear()
    with pytest.raises(DataError, match=", middle frame [0-9a-f]{8}, not .*fit it anew into another folder"):
        shot.source(out)
    middle.write_bytes(picture)
    (clip / f"{whole - 1:06d}.png").unlink()
    footage_module._opened.cache_clear()
    with pytest.raises(DataError, match=f": {whole - 1} frames of .*, not {whole} frames of "):
        shot.source(out)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"shots": [{"clip": "a"}], "gap": 1, "facts": []}'])
def test_what_a_fit_remembers_is_whole_or_refused(tmp_path: Path, content: str | None) -> None:
    for name, read in (("footage.json", read_footage), ("plan.json", read_plan), ("scores.json", read_scores)):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=f"{name}: (no such file|is damaged, or of another version)"):
            read(tmp_path)


def test_a_full_disk_leaves_no_clip_out_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = filmed(tmp_path / "hand", hand_held(0), camera=True)

    def full(*args: object) -> None:
        raise WriteError("image/000003.png: cannot be written: the disk is full")

    monkeypatch.setattr(footage_module, "prepare", full)
    with pytest.raises(WriteError):
        gather([clip, clip], camera=None, frames=None, gap=None, out=tmp_path / "out")
    assert not (tmp_path / "out" / "footage.json").exists()


def _examined(*, known: bool = False, interval: tuple[float, float] | None = None, width: int = 1920, bar: int = 0
              ) -> Examined:
    """Return a clip whose footage suggests a focal length within an interval, or none."""
    low, high = interval or (0.0, 0.0)
    focal = SimpleNamespace(observable=interval is not None, low_px=low, high_px=high)
    survey = SimpleNamespace(height=1080, width=width, bars=lambda: (0, 0, bar, bar))
    diagnosis: Any = SimpleNamespace(focal=focal, source=f"{low:g}", survey=survey,
                                     suggested_camera=lambda: f"{low:g}" if interval else "fov=65")
    return Examined(path="", number=0, is_known=known, facts={}, diagnosis=diagnosis)


def test_clips_of_one_size_share_the_focal_length_that_the_footage_shows_best() -> None:
    known, blind, other_size = _examined(known=True), _examined(), _examined(width=640)
    vague, sharp = _examined(interval=(1000, 1500)), _examined(interval=(1380, 1420))
    every = [known, blind, other_size, _examined(bar=656), vague, sharp]
    assert [camera_facts(clip, every, given="cam.json") for clip in every] == [
        {"from": "given", "words": "cam.json"}, {"from": "another clip", "words": "1380", "clip": "1380"},
        {"from": "assumed", "words": "fov=65"}, {"from": "assumed", "words": "fov=65"},
        {"from": "footage", "words": "1000"},
        {"from": "footage", "words": "1380"}]
