"""What a user does wrong: one clear line on standard error, exit code 2, and nothing left behind."""

import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import damage
from commands.clips import SMALL, image_folder, listing, video_file
from egoflow.cli import main

Words = list[str | Path]
SFM = "sfmlearner:tiny"
PROGRESS = ("skipped: ", f"{SFM} on 4 clips")
"""What may stand before the line: broken frames by name, and what is about to be done."""


def _train(data: Path | str, d: Path, *words: str, settings: tuple[str, ...] = (), method: str = SFM) -> Words:
    out = d / "new" / "out"
    return ["train", method, "--data", data, "--out", out, *words, "--set", *SMALL, "loop.steps=2", *settings]


def _set(d: Path, *settings: str) -> Words:
    return _train(_clip(d), d, settings=settings)


def _video(d: Path, *words: str) -> Words:
    return _train(video_file(d / "a.mp4"), d, *words)


def _again(run: Path, d: Path, *words: str) -> Words:
    return ["train", SFM, "--data", _clip(d), "--out", run, *words, "--set", *SMALL, "loop.steps=2"]


def _predict(run: Path, source: Path, out: Path, *words: str) -> Words:
    return ["predict", run, source, "--out", out, *words]


def _predict_with(run: Path, d: Path, *words: str) -> Words:
    return _predict(run, _clip(d), d / "new" / "out", *words)


def _odometry(prediction: Path, truth: Path, *words: str) -> Words:
    return ["evaluate", "odometry", "--prediction", prediction, "--truth", truth, *words]


def _depth(prediction: Path, truth: Path, *words: str) -> Words:
    return ["evaluate", "depth", "--prediction", prediction, "--truth", truth, *words]


def _clip(d: Path) -> Path:
    return image_folder(d / "a")


# What is wrong -> (the words for an empty folder d and a trained run, what the line says).
Case = tuple[Callable[[Path, Path], Words], str]
FOOTAGE: dict[str, Case] = {
    "no such data": (lambda d, run: _train(d / "nothing", d), "nothing: no such file or folder"),
    "unreadable video": (lambda d, run: _train(damage.text(d / "a.mp4", "no video"), d), r"a\.mp4: not a readable"),
    "empty video": (lambda d, run: _train(damage.text(d / "a.mp4", ""), d), r"a\.mp4: not a readable video"),
    "video of one frame": (lambda d, run: _train(damage.one_frame(d / "a.mp4"), d, "--camera", "fov=70"),
                           r"a\.mp4: the video has one frame; at least 2"),
    "folder of one frame": (lambda d, run: _train(image_folder(d / "a", count=1), d), "at least 2 images"),
    "empty folder": (lambda d, run: _train(damage.filled(d / "a"), d), "at least 2 images, found 0"),
    "too few frames for a clip": (lambda d, run: _train(image_folder(d / "a", count=2), d),
                                  r"no clip of 3 consecutive frames, 1 apart, in a \(2 frames\)"),
    "frames of several sizes": (lambda d, run: _train(damage.two_sizes(d / "a"), d),
                                r"several sizes: 000000\.png is 32x64, 000003\.png is 32x48"),
    "no frame is an image": (lambda d, run: _train(damage.no_images(d / "a"), d), "none of the 6 images can be read"),
    "every frame is cut off": (lambda d, run: _train(damage.cut_off(d / "a"), d), "none of the 4 clips can be read"),
    "no intrinsics": (lambda d, run: _video(d), r"a\.mp4: its camera is not known; give --camera .*fov=70"),
    "negative focal length": (lambda d, run: _video(d, "--camera=-60,60,31.5,15.5"),
                              "focal lengths must be positive and finite, got fx=-60"),
    "focal length that is no number": (lambda d, run: _video(d, "--camera=nan,60,31.5,15.5"), "positive and finite"),
    "intrinsics of the wrong form": (lambda d, run: _video(d, "--camera=60,60"), "expected four numbers fx,fy,cx,cy"),
    "zero focal length": (lambda d, run: _train(damage.matrix(d / "a", "0 0 31 0 60 15 0 0 1"), d),
                          r"intrinsics\.txt: focal lengths must be positive"),
    "normalised matrix": (lambda d, run: _train(damage.matrix(d / "a", "0.58 0 0.5 0 1.92 0.5 0 0 1"), d),
                          r"intrinsics\.txt: .* look normalised by the image size; multiply"),
    "normalised numbers": (lambda d, run: _video(d, "--camera=0.58,1.92,0.5,0.5"), "look normalised by the image size"),
    "camera of other images": (lambda d, run: _video(d, "--camera=900,900,640,360"), "intrinsics of another size"),
    "absurd field of view": (lambda d, run: _video(d, "--camera", "fov=700"), "between 1 and 175 degrees"),
    "frames that are none": (lambda d, run: _train(_clip(d), d, "--frames", "90:99"),
                             r"frames '90:99' selects nothing of the 6 frames"),
    "frames of another form": (lambda d, run: _train(_clip(d), d, "--frames", "first"), "a slice such as 0:200"),
    "unknown world": (lambda d, run: _train("world:drvie", d), "unknown world 'drvie' .did you mean 'drive'"),
    "unknown option of a world": (lambda d, run: _train("world:drive?sed=3", d), "no option 'sed' .*'seed'"),
    "option of the wrong kind": (lambda d, run: _train("world:drive?density=thick", d), "density must be a float"),
    "option that is no value": (lambda d, run: _train("world:drive?seed={", d), r"expected world:drive\?option=value"),
    "option without a value": (lambda d, run: _train("world:drive?frames", d), r"expected world:drive\?option=value"),
    "too large a world": (lambda d, run: _train("world:boxes?frames=0", d), "frames must be a whole number from 1"),
}
SETTINGS: dict[str, Case] = {
    "no --data": (lambda d, run: ["train", SFM, "--out", d / "out"], "required: --data"),
    "unknown method": (lambda d, run: _train(_clip(d), d, method="sfmlerner"),
                       "unknown method 'sfmlerner'; perhaps you meant sfmlearner"),
    "unknown preset": (lambda d, run: _train(_clip(d), d, method="sfmlearner:tini"),
                       "unknown preset 'tini' of sfmlearner; perhaps you meant tiny"),
    "method that is not installed": (lambda d, run: _train(_clip(d), d, method="no_such_package.method"),
                                     "cannot import no_such_package"),
    "module that is no method": (lambda d, run: _train(_clip(d), d, method="egoflow.errors"), "must define Config"),
    "unknown setting": (lambda d, run: _set(d, "optim.lrr=1"), "unknown key 'lrr'; perhaps you meant lr"),
    "setting of the wrong kind": (lambda d, run: _set(d, "optim.lr=fast"), "optim.lr=fast: .*number"),
    "setting out of range": (lambda d, run: _set(d, "optim.batch_size=0"), "greater than or equal to 1"),
    "setting without a value": (lambda d, run: _set(d, "loop.steps"), "expected key=value"),
    "setting of a group": (lambda d, run: _set(d, "optim=3"), "optim is a group; set one of lr"),
    "networks that cannot be": (lambda d, run: _set(d, "config.frames=1"), "greater than or equal to 2"),
    "unknown device": (lambda d, run: _set(d, "loop.device=tpu9"), "device 'tpu9' is not to be had"),
    "too short to hold frames out": (lambda d, run: _set(d, "data.validation=0.5"), "too few to hold out"),
    "out holds a run": (lambda d, run: _again(damage.copied(run, d / "out"), d), "holds a run already.*--resume"),
    "out is a file": (lambda d, run: _again(damage.text(d / "out", "mine"), d), "out: is a file"),
    "resumed with other networks": (lambda d, run: [*_again(damage.copied(run, d / "out"), d, "--resume"),
                                                    "config.ssim_weight=0.1"], "with another config"),
    "resumed from a damaged file": (lambda d, run: _again(damage.truncated(run, d / "out"), d, "--resume"),
                                    r"last\.safetensors: damaged"),
    "rendered over something": (lambda d, run: ["render", "boxes", "--out", damage.filled(d / "out")], "out: exists"),
    "demo over something": (lambda d, run: ["demo", "--out", damage.filled(d / "out")], "exists already"),
    "demo of nothing": (lambda d, run: ["demo", "--out", d / "out", "--frames", "1"], "at least 3 frames"),
}
RUNS: dict[str, Case] = {
    "no such run": (lambda d, run: _predict_with(d / "run", d), "run: no such checkpoint; give the --out folder"),
    "folder that is no run": (lambda d, run: _predict_with(d, d), r"last\.safetensors: no such checkpoint"),
    "damaged run": (lambda d, run: _predict_with(damage.truncated(run, d / "run"), d),
                    r"last\.safetensors: damaged or no safetensors"),
    "weights of another program": (lambda d, run: _predict_with(damage.foreign(d / "x.safetensors"), d),
                                   "not a checkpoint of this version of egoflow"),
    "weights of another method": (lambda d, run: _predict_with(damage.other_weights(run, d / "run"), d),
                                  "weights of another method or size"),
    "run of a method that is gone": (lambda d, run: _predict_with(damage.other_method(run, d / "run"), d),
                                     "outside method 'vanished01'"),
    "no best checkpoint": (lambda d, run: _predict_with(run, d, "--checkpoint", "best"), "data.validation=0.1"),
    "one frame": (lambda d, run: _predict(run, damage.one_frame(d / "a.mp4"), d / "out", "--camera", "fov=70"),
                  r"a\.mp4: the video has one frame"),
    "one frame of many": (lambda d, run: _predict_with(run, d, "--frames", "3:4"), "a: one frame of 1; .* at least 2"),
    "no camera": (lambda d, run: _predict(run, video_file(d / "a.mp4"), d / "out"), "its camera is not known"),
    "every frame broken": (lambda d, run: _predict(run, damage.cut_off(d / "a"), d / "new" / "out"),
                           "a: none of its 6 frames can be read"),
    "into a full folder": (lambda d, run: _predict(run, _clip(d), damage.filled(d / "out")), "out: exists already"),
    "into a file": (lambda d, run: _predict(run, _clip(d), damage.text(d / "out", "mine")), "out: exists already"),
    "below a file": (lambda d, run: _predict(run, _clip(d), damage.text(d / "f", "mine") / "deep" / "out"),
                     "out: cannot be written: a part of its path is a file"),
    "unknown device of a prediction": (lambda d, run: _predict_with(run, d, "--device", "tpu9"), "device 'tpu9'"),
    "unknown depth format": (lambda d, run: _predict_with(run, d, "--depth-format", "exr"), "invalid choice: 'exr'"),
}
SCORES: dict[str, Case] = {
    "NaN in a trajectory": (lambda d, run: _odometry(damage.tum(d / "p.txt", [0, 1, 2], last="3 0 0 nan 0 0 0 1"),
                                                     damage.tum(d / "t.txt", [0, 1, 2, 3])), "line 4 holds NaN"),
    "stamps that do not match": (lambda d, run: _odometry(damage.tum(d / "p.txt", [10, 11, 12]),
                                                          damage.tum(d / "t.txt", [0, 1, 2])), "stamp"),
    "time that runs back": (lambda d, run: _odometry(damage.tum(d / "p.txt", [0, 2, 1]), damage.tum(d / "t.txt", [0])),
                            r"p\.txt: line 3: time stamp .* must increase"),
    "unknown alignment": (lambda d, run: _odometry(d / "p", d / "t", "--align", "sim4"), "invalid choice: 'sim4'"),
    "unknown crop": (lambda d, run: _depth(d, d, "--crop", "gurg"), "invalid choice: 'gurg'"),
    "no common names": (lambda d, run: _depth(damage.depth(d / "p", "a.npz"), damage.depth(d / "t", "b.npz")),
                        "no names match"),
}
CASES = FOOTAGE | SETTINGS | RUNS | SCORES


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line(name: str, tmp_path: Path, trained: Path, capsys) -> None:
    build, says = CASES[name]
    words = [str(word) for word in build(tmp_path, trained)]
    before = listing(tmp_path)
    capsys.readouterr()
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    lines = [line for line in output.err.splitlines() if not line.startswith(PROGRESS)]
    assert len(lines) == 1, output.err
    assert re.search(says, lines[0]), lines[0]
    assert listing(tmp_path) == before


@pytest.mark.parametrize(("words", "limit"), [
    (["predict", "{run}", "{clip}", "--out", "{d}/new/out"], 300),
    (["predict", "{run}", "{clip}", "--out", "{d}/new/out", "--depth-format", "npz"], 20_000),
    (["train", SFM, "--data", "{clip}", "--out", "{d}/new/out", "--set", *SMALL, "loop.steps=2"], 100_000),
    (["render", "boxes", "--out", "{d}/new/out", "--frames", "2", "--size", "16x32"], 300)])
def test_a_full_disk_is_one_line(words: list[str], limit: int, tmp_path: Path, trained: Path) -> None:
    clip = image_folder(tmp_path / "clip", count=40)
    before = listing(tmp_path)
    command = [word.format(run=trained, clip=clip, d=tmp_path) for word in words]
    # No file may grow beyond the limit: every writer, the video's too, fails as it does on a full disk.
    done = subprocess.run([sys.executable, "-m", "egoflow", *command], capture_output=True, text=True, cwd=tmp_path,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    lines = [line for line in done.stderr.splitlines() if not line.startswith(f"{SFM} on 38 clips")]
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert re.fullmatch(r"egoflow: .*new/out/.*cannot (be written|save the checkpoint).*", lines[0])
    assert listing(tmp_path) == before


def test_the_line_of_a_full_disk_says_so(tmp_path: Path, trained: Path, capsys, monkeypatch) -> None:
    clip = image_folder(tmp_path / "clip")
    before, write, calls = listing(tmp_path), Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) == 4:
            write(path, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["predict", str(trained), str(clip), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert re.fullmatch(r"egoflow: .*/out/depth/\d{6}\.png: cannot be written: the disk is full; free.*\n", err)
    assert listing(tmp_path) == before


def test_a_workers_error_is_one_line(tmp_path: Path, capfd) -> None:
    clip = damage.cut_off(tmp_path / "clip", which=range(1, 2))
    words = ["train", SFM, "--data", str(clip), "--out", str(tmp_path / "out"), "--set", *SMALL, "loop.steps=2",
             "loop.workers=1", "data.on_broken=refuse"]
    assert main(words) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[1:] == [f"egoflow: {clip / '000001.png'}: not a readable image: 'image file is truncated'"]


def test_a_terminated_prediction_leaves_nothing(tmp_path: Path, trained: Path) -> None:
    clip = image_folder(tmp_path / "clip", count=40)
    before = listing(tmp_path)
    # It stops in the middle by itself: a signal from outside would have to guess when.
    program = ("import os, signal, sys; from egoflow.cli import main; from egoflow.inference import writer;"
               "add = writer.PredictionWriter.add;"
               "stop = lambda self, f: (add(self, f), f.index == 20 and os.kill(os.getpid(), signal.SIGTERM));"
               "writer.PredictionWriter.add = stop; sys.exit(main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", program, "predict", trained, clip, "--out", tmp_path / "out"],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + 15, "", "")
    assert listing(tmp_path) == before


def test_an_interrupted_prediction_leaves_nothing(tmp_path: Path, trained: Path, capsys, monkeypatch) -> None:
    from egoflow.inference.writer import PredictionWriter

    clip = image_folder(tmp_path / "clip")
    before, add = listing(tmp_path), PredictionWriter.add

    def stop(writer: PredictionWriter, frame) -> None:
        add(writer, frame)
        if frame.index == 3:
            raise KeyboardInterrupt
    monkeypatch.setattr(PredictionWriter, "add", stop)
    assert main(["predict", str(trained), str(clip), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "\negoflow: interrupted\n"
    assert listing(tmp_path) == before
