"""egoflow doctor: text, JSON, a page, and one line for what is wrong."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from doctor.footage import hand_held
from egoflow.cli import command_parser, main
from egoflow.data.cameras import write_camera
from egoflow.data.formats import write_image

SMALL = "world:{}?frames=22&height=128&width=192&samples=1"
MOVING, TURNING = SMALL.format("boxes") + "&speed=5&texture_ratio=1&seed=1", SMALL.format("boxes") + (
    "&speed=0&turn_deg=6&texture_ratio=1")


def test_text_names_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", MOVING]) == 0
    shown = capsys.readouterr().out
    assert "world" in shown.splitlines()[0] or "boxes" in shown.splitlines()[0]
    assert "next: egoflow train joint:tiny --data" in shown
    assert "data.gap=" in shown


def test_the_command_that_is_named_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Frames from the end are one word, and every clip has a run of its own name."""
    assert main(["doctor", MOVING, "--frames=-18:"]) == 0
    shown = capsys.readouterr().out
    command = shlex.split(shown.split("next: egoflow ")[1].splitlines()[0])
    args = command_parser(command[0])[0].parse_args(command[1:])
    assert args.frames == "-18:"
    assert args.out == "runs/boxes"
    command = shlex.split(shown.split("trained in one: egoflow ")[1])
    args = command_parser(command[0])[0].parse_args(command[1:])
    assert (args.frames, args.out) == ("-18:", "runs/boxes-fit")


@pytest.mark.parametrize("lens", [(), (0.001, 0.0, 0.0, 0.0)])
def test_no_camera_is_suggested_that_drops_a_lens(tmp_path: Path, lens: tuple[float, ...],
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    clip = hand_held(0)
    for index in range(len(clip)):
        write_image(tmp_path / "image" / f"{index:06d}.png", clip.image(index))
    wrong = replace(clip.camera, fx=clip.camera.fx * 2, fy=clip.camera.fy * 2)
    write_camera(tmp_path / "camera.json", wrong)
    stated = json.loads((tmp_path / "camera.json").read_text())
    (tmp_path / "camera.json").write_text(json.dumps(stated | ({"distortion": list(lens)} if lens else {})))
    main(["doctor", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "wrong_camera" in shown
    assert ("--camera" in shown.split("next: ")[1]) == (not lens)


def test_a_clip_that_cannot_teach_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", TURNING]) == 1
    shown = capsys.readouterr().out
    assert "cannot teach depth" in shown
    assert "only turns" in shown
    assert "next:" not in shown


def test_json_is_a_list_of_clips(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", MOVING, TURNING, "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first["verdict"] in ("good", "usable")
    assert (first["frames"], first["height"], first["width"]) == (22, 128, 192)
    assert [finding["name"] for finding in second["findings"]][0] == "rotation"
    assert first["next"].startswith("egoflow train joint:tiny --data")
    assert first["fit"].startswith("egoflow fit ")
    assert (first["path"], second["next"], second["fit"]) == (MOVING, None, None)


def test_the_page_shows_every_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", MOVING, TURNING, "--page", str(tmp_path / "page")]) == 1
    table = capsys.readouterr().out.splitlines()[-4:-1]
    assert [line.split()[0] for line in table] == ["verdict", "good", "cannot"]
    assert table[2].split()[-2:] == ["rotation", TURNING]
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<section>") == 2
    assert "<script" not in page
    assert "http" not in page
    for name in {part.split("'")[0] for part in page.split("src='")[1:]}:
        assert (tmp_path / "page" / name).stat().st_size > 0
    assert "cannot teach depth" in page


def test_what_cannot_be_opened_is_left_out_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert main(["doctor", str(broken), MOVING, "--json"]) == 1
    shown = capsys.readouterr()
    assert [clip["verdict"] for clip in json.loads(shown.out)] == ["good"]
    assert f"left out: {broken}: not a readable video" in shown.err
    assert main(["doctor", str(broken), str(broken)]) == 2
    assert f"none of the 2 sources can be opened; the first: {broken}: " in capsys.readouterr().err


@pytest.mark.parametrize(("words", "message"), [
    (["none.mp4"], "none.mp4: no such file"),
    ([MOVING, "--frames", "90:"], "selects nothing"),
    ([MOVING, "--page", "full"], "exists already"),
])
def test_mistakes_are_one_line(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("a")
    assert main(["doctor", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
