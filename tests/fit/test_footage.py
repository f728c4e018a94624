"""A fit's footage: whose camera it is, what of it is learnt from, and that it is looked at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from egoflow.data.cameras import parse_camera
from egoflow.data.open import open_source
from egoflow.doctor.diagnosis import diagnose
from egoflow.errors import DataError
from egoflow.fit import footage as module
from egoflow.fit.footage import gather, prepared_gap, read_footage
from egoflow.fit.prepare import Prepared
from egoflow.worlds.base import load_world

ROOM = "world:boxes?frames=26&height=160&width=240&speed=5&texture_ratio=1&seed=0"
TRUE_FOCAL_PX = 120.0


def test_a_camera_that_turns_is_learnt_and_one_on_a_rail_is_not_called_calibrated(tmp_path: Path) -> None:
    hand, rail = (gather([f"{ROOM}&turn_deg={turn}"], camera="learn", frames=None, out=tmp_path / str(turn))
                  for turn in (6, 0))
    assert hand.facts[0]["camera"]["from"] == "footage"
    learnt = parse_camera(hand.facts[0]["camera"]["words"], height=160, width=240)
    assert float(learnt.fx) == pytest.approx(TRUE_FOCAL_PX, rel=0.05)
    low, high = hand.facts[0]["focal"]["interval_px"]
    assert low <= float(learnt.fx) <= high
    # What is trained on and what is predicted have that camera, whatever the clip says.
    assert float(open_source(hand.shots[0].clip).camera.fx) == pytest.approx(float(learnt.fx), rel=1e-5)
    assert float(hand.shots[0].source().camera.fx) == pytest.approx(float(learnt.fx), rel=1e-5)
    assert rail.facts[0]["camera"] == {"from": "assumed", "words": "fov=65"}
    assert rail.facts[0]["focal"]["focal_px"] is None
    assert read_footage(tmp_path / "6") == hand


def test_footage_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather([f"{ROOM}&turn_deg=6"], camera=None, frames=None, out=tmp_path)
    assert found.facts[0]["camera"]["from"] == "given"
    monkeypatch.setattr(module, "diagnose", lambda *args, **kwargs: pytest.fail("looked again"))
    assert gather([f"{ROOM}&turn_deg=6"], camera=None, frames=None, out=tmp_path) == found


def test_a_useless_clip_among_others_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = ROOM.replace("speed=5", "speed=0").replace("frames=26", "frames=14")
    found = gather([still, f"{ROOM}&turn_deg=6"], camera=None, frames=None, out=tmp_path)
    assert [shot.facts for shot in found.shots] == [1]
    assert [about["verdict"] for about in found.facts] == ["cannot", "good"]
    assert "left out: the camera stands still" in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot teach depth, nor can the 1 others: static"):
        gather([still, still], camera=None, frames=None, out=tmp_path / "none")


def test_repeated_frames_do_not_count_for_the_frame_distance() -> None:
    world = load_world("boxes", frames=20, height=48, width=64, speed=5.0, samples=1)
    diagnosis = replace(diagnose(world, camera=world.camera), gap=4)
    ready = Prepared(clips=(), shots=(), window=(0, 0, 48, 64), frames=20, dropped={"repeated": 20})
    assert prepared_gap(diagnosis, ready) == 2
    assert prepared_gap(diagnosis, replace(ready, dropped={})) == 4
