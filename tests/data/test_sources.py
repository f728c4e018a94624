"""Sources: videos of many codecs, folders, clip folders, and what the real clips are known to hold."""

import logging
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egoflow.data.cameras import write_camera
from egoflow.data.folders import ImageFolder, clip_folder, read_timestamps
from egoflow.data.formats import write_depth_png, write_image, write_mask
from egoflow.data.open import continuous_runs, open_source
from egoflow.data.trajectories import write_trajectory
from egoflow.data.video import VideoFile
from egoflow.data.video_writer import VideoWriter
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.types import Trajectory, assumed_fps

COUNT = 70
CODECS = [("a.mp4", "libx264", {"bf": "3", "g": "30"}), ("b.avi", "mpeg4", {"bf": "2"}), ("c.mkv", "ffv1", {}),
          ("d.avi", "mjpeg", {}), ("e.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
          ("f.mov", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=20"}), ("g.gif", "gif", {}),
          ("h.avi", "libx264", {"bf": "3"}), ("i.ts", "libx264", {"bf": "2"}), ("k.mpg", "mpeg1video", {}),
          ("l.h264", "libx264", {})]
FORMATS = {"mjpeg": "yuvj420p", "gif": "rgb8"}


def _coded(number: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture that holds ``number`` as eight wide bars, readable after any compression."""
    bits = [(number >> b) & 1 for b in range(8)]
    row = np.repeat(np.array(bits), width // 8) * 170 + 30
    return np.broadcast_to(row.astype(np.uint8)[None, :, None], (height, width, 3)).copy()


def _number(image: np.ndarray) -> int:
    """Return the number that a picture holds."""
    middle = image[16:32].mean(axis=(0, 2))
    return sum(int(middle[8 * b + 2:8 * b + 6].mean() > 110) << b for b in range(8))


def _video(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, *, count: int = COUNT,
           ticks: list[int] | None = None) -> Path:
    """Write a video of numbered frames without the code under test."""
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, FORMATS.get(codec, "yuv420p")  # type: ignore[attr-defined]
        stream.options = options or {}
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 15360)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(_coded(number), format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[number], Fraction(1, 15360)
            container.mux(stream.encode(frame))  # type: ignore[attr-defined]
        container.mux(stream.encode())  # type: ignore[attr-defined]
    return path


@pytest.mark.parametrize(("name", "codec", "options"), CODECS, ids=[c[0] for c in CODECS])
def test_every_frame_of_every_codec_in_any_order(tmp_path: Path, name: str, codec: str,
                                                 options: dict[str, str]) -> None:
    video = VideoFile(_video(tmp_path / name, codec, options), "fov=60")
    assert len(video) == COUNT
    assert (np.diff(video.time_s) > 0).all()
    assert [_number(video.image(i)) for i in range(COUNT)] == list(range(COUNT))
    for index in (65, 3, 50, 51, 0, 69, 49):
        assert _number(video.image(index)) == index


def test_variable_frame_rate_keeps_its_stamps(tmp_path: Path) -> None:
    ticks = [512 * i + 100 * (i % 3) for i in range(20)]
    video = VideoFile(_video(tmp_path / "v.mp4", ticks=ticks, count=20), "fov=60")
    np.testing.assert_allclose(video.time_s, np.array(ticks) / 15360, atol=1e-6)


def test_a_portrait_phone_clip_stands_upright(tmp_path: Path) -> None:
    path = _video(tmp_path / "p.mp4", count=4)
    lying = VideoFile(path, "fov=60").image(2)
    data = bytearray(path.read_bytes())
    # The track header's matrix starts 40 bytes into a version 0 'tkhd': a quarter turn clockwise, as phones write it.
    place = data.index(b"tkhd") + 4 + 40
    assert struct.unpack_from(">9i", data, place)[:5] == (65536, 0, 0, 0, 65536)
    struct.pack_into(">9i", data, place, 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    video = VideoFile(path, "fov=60")
    assert (video.camera.height, video.camera.width) == (64, 48)
    # Clockwise: the lying picture's left column becomes the top row, read from bottom to top.
    np.testing.assert_array_equal(video.image(2)[0], lying[::-1, 0])


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = tmp_path / "hdv.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"  # type: ignore[attr-defined]
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_coded(number, width=48), format="rgb24")))  # type: ignore[attr-defined]
        container.mux(stream.encode())  # type: ignore[attr-defined]
    video = VideoFile(path, "fov=60")
    assert (video.camera.height, video.camera.width) == (48, 64)
    assert [_number(video.image(k)) for k in range(4)] == [0, 1, 2, 3]


def test_a_broken_packet_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = _video(tmp_path / "b.avi", "mjpeg", count=20)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    place = data.index(packets[7])
    data[place:place + len(packets[7])] = bytes(len(packets[7]))
    path.write_bytes(data)
    video = VideoFile(path, "fov=60")
    assert len(video) == 20
    with pytest.raises(DataError, match=r"b.avi: frame 7 \(at 0.23 s\) cannot be decoded"):
        video.image(7)
    assert [_number(video.image(i)) for i in (6, 8, 19, 0)] == [6, 8, 19, 0]


def test_a_video_cut_short_ends_early(tmp_path: Path) -> None:
    path = _video(tmp_path / "c.mkv", "ffv1")
    data = path.read_bytes()
    path.write_bytes(data[:len(data) * 2 // 3])
    video = VideoFile(path, "fov=60")
    assert COUNT // 2 < len(video) < COUNT
    assert _number(video.image(len(video) - 2)) == len(video) - 2


def test_a_video_survives_pickling(tmp_path: Path) -> None:
    video = VideoFile(_video(tmp_path / "a.mp4"), "fov=60")
    assert _number(video.image(9)) == 9
    assert _number(pickle.loads(pickle.dumps(video)).image(12)) == 12


@pytest.mark.parametrize(("data", "message"), [(b"", "not a readable video"), (b"junk" * 500, "not a readable video"),
                                               (b"\x00\x00\x00\x18ftypmp42" + bytes(99), "not a readable video")])
def test_unreadable_videos_are_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        open_source(path, camera="fov=60")
    assert "x.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_play_list_opens_no_other_address(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match="list.m3u8"):
        open_source(path, camera="fov=60")


def test_one_frame_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one frame"):
        VideoFile(_video(tmp_path / "a.mp4", count=1), "fov=60")


def test_a_clip_without_a_camera_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.mp4: its camera is not known; give --camera camera.json .* fov=70"):
        open_source(_video(tmp_path / "a.mp4", count=3))


def test_writer_and_reader_agree(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "w.mp4", fps=29.97) as writer:
        for number in range(25):
            writer.write(_coded(number))
    video = VideoFile(tmp_path / "w.mp4", "fov=60")
    assert [_number(video.image(i)) for i in range(25)] == list(range(25))
    assert video.time_s[1] == pytest.approx(1 / 29.97, rel=1e-3)


def _write_until_it_fails(path: Path, images: Iterator[np.ndarray]) -> None:
    with VideoWriter(path) as writer:
        for image in images:
            writer.write(image)


@pytest.mark.parametrize(("images", "error"), [
    ([], "no frame was given"), ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], "first frame"),
    ([np.zeros((8, 8, 3))], "expected uint8")])
def test_a_failed_video_leaves_nothing(tmp_path: Path, images: list[np.ndarray], error: str) -> None:
    with pytest.raises(DataError, match=error):
        _write_until_it_fails(tmp_path / "w.mp4", iter(images))
    assert list(tmp_path.iterdir()) == []


_FILLS_THE_DISK = """
import resource, signal, sys
import numpy as np
from egoflow.data.video_writer import VideoWriter
from egoflow.errors import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
random = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1]) as writer:
        for _ in range(60):
            writer.write(random.integers(0, 256, (128, 128, 3), dtype=np.uint8))
except DataError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_under_a_video_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FILLS_THE_DISK, str(tmp_path / "a.mp4")], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'a.mp4'}: cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def _images(folder: Path, names: list[str], *, height: int = 20, width: int = 30) -> Path:
    for name in names:
        write_image(folder / name, np.full((height, width, 3), 7, np.uint8))
    return folder


def test_folders_are_read_in_natural_order(tmp_path: Path) -> None:
    folder = ImageFolder(_images(tmp_path, ["f10.png", "f9.png", "f11.jpg", ".hidden.png"]), "20,20,15,10")
    assert [folder.frame_name(i) for i in range(3)] == ["f9", "f10", "f11"]
    np.testing.assert_allclose(folder.time_s, [0, 0.1, 0.2])


def test_names_may_be_seconds(tmp_path: Path) -> None:
    folder = ImageFolder(_images(tmp_path, ["1305031102.1753.png", "1305031102.2113.png"]), "20,20,15,10")
    assert np.diff(folder.time_s) == pytest.approx([0.036])


def test_times_without_stamps_say_so(tmp_path: Path) -> None:
    for name in ("counted/000001.png", "counted/000003.png", "stamped/1305.5.png", "stamped/1306.5.png"):
        write_image(tmp_path / name, _coded(1))
    counted, stamped = (open_source(tmp_path / name, camera="fov=60", frames=":") for name in ("counted", "stamped"))
    assert assumed_fps(counted) == 1 / (counted.time_s[1] - counted.time_s[0]) * 2
    assert assumed_fps(stamped) is None
    assert assumed_fps(VideoFile(_video(tmp_path / "a.mp4"), "fov=60")) is None
    assert assumed_fps(VideoFile(_video(tmp_path / "l.h264", "libx264"), "fov=60")) is not None


def test_mixed_sizes_name_both_files(tmp_path: Path) -> None:
    _images(tmp_path, ["a.png", "b.png"])
    _images(tmp_path, ["c.png"], width=31)
    with pytest.raises(DataError, match="a.png is 20x30, c.png is 20x31"):
        open_source(tmp_path, camera="fov=60")


def test_a_damaged_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    _images(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    source = open_source(tmp_path, camera="fov=60")
    assert len(source) == 3
    with pytest.raises(DataError, match="1.png"):
        source.image(1)
    assert source.image(2).shape == (20, 30, 3)


@pytest.mark.parametrize(("names", "message"), [([], "at least 2 images, found 0"), (["a.png"], "found 1")])
def test_too_few_images(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(_images(tmp_path, names), camera="fov=60")


def test_folders_of_videos_name_one(tmp_path: Path) -> None:
    _video(tmp_path / "one.mp4", count=2)
    with pytest.raises(DataError, match="a folder of videos; name one of them, for instance .*one.mp4"):
        open_source(tmp_path)


def test_a_missing_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "none.mp4")


def _rendered(folder: Path) -> Trajectory:
    """Write a small folder in the layout of docs/data.md."""
    _images(folder / "image", [f"{i:06d}.png" for i in range(4)])
    write_camera(folder / "camera.json", Camera.create(25, 26, 14.5, 9.5, height=20, width=30))
    twist = torch.tensor([[0, 0, 0.5 * i, 0, 0.1 * i, 0] for i in range(4)], dtype=torch.float64)
    path = Trajectory(world_from_cam=SE3.exp(twist), time_s=torch.arange(4, dtype=torch.float64) / 25, scale="metric")
    write_trajectory(folder / "poses_kitti.txt", path, format="kitti")
    write_trajectory(folder / "trajectory_tum.txt", path, format="tum")
    for i in (0, 2):
        write_depth_png(folder / "depth" / f"{i:06d}.png", np.full((20, 30), 3.0 + i))
    write_mask(folder / "static" / "000002.png", np.eye(20, 30, dtype=bool))
    return path


def test_the_rendered_layout(tmp_path: Path) -> None:
    path = _rendered(tmp_path)
    source = open_source(tmp_path)
    assert (source.scale, float(source.camera.fy)) == ("metric", 26)
    np.testing.assert_allclose(source.time_s, [0, 0.04, 0.08, 0.12])
    truth = source.truth(2)
    assert truth.depth is not None
    assert truth.static is not None
    assert truth.world_from_cam is not None
    assert float(truth.depth[3, 4]) == 5
    assert truth.static.sum() == 20
    torch.testing.assert_close(truth.world_from_cam.R, path.world_from_cam.R[2])
    assert source.truth(1).depth is None
    assert source.truth(1).static is None
    assert float(open_source(tmp_path, camera="50,50,14,9").camera.fx) == 50


def test_rows_that_do_not_match_the_frames_are_refused(tmp_path: Path) -> None:
    path = _rendered(tmp_path)
    short = Trajectory(world_from_cam=path.world_from_cam[:3], time_s=path.time_s[:3])
    write_trajectory(tmp_path / "poses_kitti.txt", short, format="kitti")
    with pytest.raises(DataError, match="poses_kitti.txt: 3 rows for 4 images"):
        clip_folder(tmp_path)
    write_trajectory(tmp_path / "poses_kitti.txt", path, format="kitti")
    write_trajectory(tmp_path / "trajectory_tum.txt", short, format="tum")
    with pytest.raises(DataError, match="3 time stamps for 4 images"):
        clip_folder(tmp_path)


def test_time_stamps_of_three_kinds(tmp_path: Path) -> None:
    for text in ("0.5\n1.75\n", "2011-09-26 23:59:59.500000000\n2011-09-27 00:00:00.750000000\n",
                 "000024 2011-09-26 14:05:37.5\n000025 2011-09-26 14:05:38.75\n"):
        (tmp_path / "t.txt").write_text(text)
        np.testing.assert_allclose(read_timestamps(tmp_path / "t.txt"), [0, 1.25], atol=1e-9)
    for text, message in (("a\n", "line 1"), ("1\n1\n", "line 2"), ("nan\n", "line 1"), ("", "no time stamps")):
        (tmp_path / "t.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_timestamps(tmp_path / "t.txt")


REAL = [  # name, frames, fx, height, width, first frame, runs, seconds
    ("kitti-raw-residential-377", 277, 721.5377, 375, 1242, "000024", 1, 28.488),
    ("kitti-odom-06-f000-050", 51, 707.0912, 370, 1226, "000000", 1, 5.0),
    ("kitti-raw-0001-416x128", 108, 241.6745, 128, 416, "000000", 1, 11.0368),
    ("kitti-raw-moving-91", 91, 721.5377, 375, 1242, "000000", 1, 9.0),
    ("kitti-raw-static-416x128", 60, 245.2285, 128, 416, "000000", 1, 5.9),
    ("new-tsukuba-150", 100, 615, 480, 640, "rgb_00000", 1, 9.9),
    ("drone-crazyflie-91", 91, 210.2412, 480, 640, "000000", 1, 9.0),
]


@pytest.mark.parametrize(("name", "frames", "fx", "height", "width", "first", "runs", "seconds"), REAL,
                         ids=[r[0] for r in REAL])
def test_real_clips(shared_data: Path, name: str, frames: int, fx: float, height: int, width: int, first: str,
                    runs: int, seconds: float) -> None:
    if not (shared_data / name).is_dir():
        pytest.skip(f"{name} is not in {shared_data}")
    source = open_source(shared_data / name)
    assert len(source) == frames
    assert float(source.camera.fx) == pytest.approx(fx, abs=1e-3)
    assert source.image(frames // 2).shape == (height, width, 3)
    assert source.frame_name(0) == first
    assert len(continuous_runs(source)) == runs
    assert source.time_s[-1] == pytest.approx(seconds, abs=1e-3)


def test_real_truth(shared_data: Path) -> None:
    source = open_source(shared_data / "kitti-raw-residential-377")
    truth = source.truth(1)
    assert truth.depth is not None
    assert truth.valid_depth is not None
    assert 0.03 < truth.valid_depth.mean() < 0.05
    assert 2 < truth.depth[truth.valid_depth].min() < truth.depth.max() < 90
    motions = [source.truth(i).world_from_cam for i in range(len(source))]
    positions = torch.stack([m.t for m in motions if m is not None])
    assert float(positions.diff(dim=0).norm(dim=1).sum()) == pytest.approx(226, abs=3)
    # It drives forwards: the next camera lies ahead of this one.
    forward = torch.stack([m.R[:, 2] for m in motions[:-1] if m is not None])
    assert bool(((forward * positions.diff(dim=0)).sum(1) > 0).all())


def test_a_camera_with_a_negative_focal_length_is_refused(shared_data: Path) -> None:
    with pytest.raises(DataError, match=r"intrinsics.txt: focal lengths must be positive .* fy=-480"):
        open_source(shared_data / "icl-nuim-5")


def test_frames_option_on_a_real_clip(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = open_source(shared_data / "kitti-raw-residential-377", frames="200:")
    assert (len(source), source.frame_name(0)) == (77, "000224")
    assert caplog.text == ""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_videos_read_or_fail_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "whole.avi"
    if not path.exists():
        _video(path, "mjpeg", count=6)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "fuzz.avi").write_bytes(damaged[:data.draw(st.integers(1, len(damaged)))])
    message = "fuzz.avi"
    try:
        video = VideoFile(tmp_path / "fuzz.avi", "fov=60")
        for index in range(min(len(video), 8)):
            assert video.image(index).dtype == np.uint8
    except DataError as error:
        message = str(error)
    assert "fuzz.avi" in message
    assert "\n" not in message
