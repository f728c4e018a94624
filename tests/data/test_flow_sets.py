"""The public flow data sets, in small folders of their own layouts: what is opened, by which name, with which truth."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from egoflow.config import DataConfig
from egoflow.data.cameras import UnknownCameraError
from egoflow.data.clips import ClipDataset
from egoflow.data.flow_frames import FlowFrames
from egoflow.data.flow_sets import find_shots
from egoflow.data.formats import read_flow, write_flo, write_flow_png, write_image, write_mask, write_pfm
from egoflow.data.open import open_shots, open_source
from egoflow.errors import DataError
from egoflow.geometry.flow import backward_warp
from egoflow.training.session import open_sources
from egoflow.types import FlowSource, FlowTruth, FrameSource

HEIGHT, WIDTH = 20, 30
CAMERA = "fov=60"
RNG = np.random.default_rng(0)
SPEED = (2.0, -1.0)
"""The flow of every fabricated pair, in pixels."""


def _images(folder: Path, names: list[str]) -> None:
    """Write frames in which each shows the one before, moved by SPEED."""
    wide = RNG.integers(0, 256, (HEIGHT + 2 * len(names), WIDTH + 2 * len(names), 3)).astype(np.uint8)
    for i, name in enumerate(names):
        top, left = len(names) + int(-SPEED[1]) * i, 2 * (len(names) - i)
        write_file = folder / name
        write_file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide[top:top + HEIGHT, left:left + WIDTH]).save(write_file)


def _flow() -> np.ndarray:
    return np.broadcast_to(np.array(SPEED, np.float32), (HEIGHT, WIDTH, 2)).copy()


def _corner() -> np.ndarray:
    """Return a mask of the four pixels in the first corner."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:2, :2] = True
    return mask


def _in_view() -> np.ndarray:
    """Return where a point that moves by SPEED stays in the image."""
    seen = np.ones((HEIGHT, WIDTH), bool)
    seen[:1], seen[:, -2:] = False, False
    return seen


def _chairs(root: Path) -> None:
    for number in range(1, 5):
        stem = f"{number:05d}"
        _images(root / "data", [f"{stem}_img1.ppm", f"{stem}_img2.ppm"])
        write_flo(root / "data" / f"{stem}_flow.flo", _flow())


def _things(root: Path) -> None:
    for look in ("cleanpass", "finalpass"):
        for part in ("TRAIN", "TEST"):
            _images(root / f"frames_{look}" / part / "A" / "0000" / "left", [f"{i:04d}.png" for i in (6, 7, 8)])
            _images(root / f"frames_{look}" / part / "A" / "0000" / "right", ["0006.png", "0007.png"])
    unused = np.full((HEIGHT, WIDTH, 1), 9.0, np.float32)
    flows = root / "optical_flow" / "TRAIN" / "A" / "0000"
    for i in (6, 7, 8):
        flow = np.concatenate((_flow(), unused), axis=2)
        write_pfm(flows / "into_future" / "left" / f"OpticalFlowIntoFuture_{i:04d}_L.pfm", flow)
        write_pfm(flows / "into_past" / "left" / f"OpticalFlowIntoPast_{i:04d}_L.pfm", -flow)


def _sintel(root: Path) -> None:
    names = [f"frame_{i:04d}.png" for i in (1, 2, 3)]
    for part, scenes in (("training", ("alley_1", "market_2")), ("test", ("wall",))):
        for scene in scenes:
            for look in ("clean", "final"):
                _images(root / part / look / scene, names)
    for scene in ("alley_1", "market_2"):
        for i in (1, 2):
            write_flo(root / "training" / "flow" / scene / f"frame_{i:04d}.flo", _flow())
            write_mask(root / "training" / "occlusions" / scene / f"frame_{i:04d}.png", np.roll(_corner(), 9, axis=1))
            write_mask(root / "training" / "invalid" / scene / f"frame_{i:04d}.png", _corner()[::-1])


def _kitti(root: Path, images: str = "image_2") -> None:
    for part in ("training", "testing"):
        for stem in ("000000", "000001"):
            _images(root / part / images, [f"{stem}_{i}.png" for i in (10, 11)])
    for stem in ("000000", "000001"):
        write_flow_png(root / "training" / "flow_occ" / f"{stem}_10.png", _flow(), ~_corner())
        write_flow_png(root / "training" / "flow_noc" / f"{stem}_10.png", _flow(), _in_view() & ~_corner()[::-1])
        write_mask(root / "training" / "obj_map" / f"{stem}_10.png", _corner()[:, ::-1])


def _hd1k(root: Path) -> None:
    for scene in ("000000", "000001"):
        names = [f"{scene}_{i:04d}.png" for i in range(3)]
        _images(root / "hd1k_input" / "image_2", names)
        for name in names:
            write_flow_png(root / "hd1k_flow_gt" / "flow_occ" / name, _flow(), ~_corner())


def _middlebury(root: Path) -> None:
    for scene in ("Grove", "Urban"):
        _images(root / "other-data" / scene, ["frame10.png", "frame11.png"])
        write_flo(root / "other-gt-flow" / scene / "flow10.flo", _flow(), ~_corner())
    _images(root / "eval-data" / "Army", [f"frame{i:02d}.png" for i in range(7, 15)])


# Layout, the shots that its root opens, its frames a shot, what names one alone, the pairs that have flow.
LAYOUTS: dict[str, tuple[Callable[[Path], None], list[str], int, str, set[tuple[int, int]]]] = {
    "chairs": (_chairs, [f"chairs/{i:05d}" for i in (1, 2, 3, 4)], 2, "data/00003_img1.ppm", {(0, 1)}),
    "things": (_things, [f"things/{look}/TRAIN/A/0000" for look in ("cleanpass", "finalpass")], 3,
               "frames_finalpass/TRAIN/A/0000/left", {(0, 1), (1, 0), (1, 2), (2, 1)}),
    "sintel": (_sintel, [f"sintel/training/{look}/{scene}" for look in ("clean", "final")
                         for scene in ("alley_1", "market_2")], 3, "training/clean/market_2", {(0, 1), (1, 2)}),
    "kitti2015": (_kitti, [f"kitti2015/training/{i:06d}" for i in (0, 1)], 2, "training/image_2/000001_10.png",
                  {(0, 1)}),
    "kitti2012": (lambda root: _kitti(root, "colored_0"), [f"kitti2012/training/{i:06d}" for i in (0, 1)], 2,
                  "training/colored_0/000001_11.png", {(0, 1)}),
    "hd1k": (_hd1k, [f"hd1k/{i:06d}" for i in (0, 1)], 3, "hd1k_input/image_2/000001_0001.png", {(0, 1), (1, 2)}),
    "middlebury": (_middlebury, ["middlebury/Grove", "middlebury/Urban"], 2, "other-data/Urban", {(0, 1)}),
}


def _truth(source: FrameSource, a: int, b: int) -> FlowTruth | None:
    assert isinstance(source, FlowSource)
    return source.flow_truth(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_root_opens_its_training_shots(layout: str, tmp_path: Path) -> None:
    write, names, frames, _, pairs = LAYOUTS[layout]
    write(tmp_path)
    sources = open_shots(tmp_path, camera=CAMERA)
    assert [source.name for source in sources] == names
    for source in sources:
        assert len(source) == frames
        assert (source.camera.height, source.camera.width) == (HEIGHT, WIDTH)
        known = {(a, b) for a in range(frames) for b in range(frames) if _truth(source, a, b) is not None}
        assert known == pairs
        for a, b in pairs:
            truth = _truth(source, a, b)
            assert truth is not None
            assert truth.flow_ab.shape == (2, HEIGHT, WIDTH)
            assert truth.flow_ab.dtype == np.float32
            np.testing.assert_array_equal(truth.flow_ab[:, 7, 9], np.array(SPEED) * (b - a))
            image_a, image_b = (torch.from_numpy(source.image(i)).permute(2, 0, 1)[None].double() for i in (a, b))
            warped, inside = backward_warp(image_b, torch.from_numpy(truth.flow_ab)[None].double())
            use = (inside & torch.from_numpy(truth.valid)).expand_as(warped)
            torch.testing.assert_close(warped[use], image_a[use])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_shot_is_named_by_its_folder_or_a_frame(layout: str, tmp_path: Path) -> None:
    write, names, _, one, _ = LAYOUTS[layout]
    write(tmp_path)
    source = open_source(tmp_path / one, camera=CAMERA)
    assert source.name in names
    assert isinstance(source, FlowFrames)
    assert source.shot.is_at(tmp_path / one)
    with pytest.raises(DataError, match=rf"holds {len(names)} pairs or scenes of \S+; name one of them") as error:
        open_source(tmp_path, camera=CAMERA)
    named = str(error.value).rpartition(" ")[2]
    assert open_source(named, camera=CAMERA).name == names[0]


@pytest.mark.parametrize(("layout", "below", "names"), [
    ("sintel", "training/final", ["sintel/training/final/alley_1", "sintel/training/final/market_2"]),
    ("sintel", "test", ["sintel/test/clean/wall", "sintel/test/final/wall"]),
    ("things", "frames_cleanpass", ["things/cleanpass/TRAIN/A/0000"]),
    ("things", "frames_cleanpass/TEST", ["things/cleanpass/TEST/A/0000"]),
    ("kitti2015", "testing", ["kitti2015/testing/000000", "kitti2015/testing/000001"]),
    ("middlebury", "eval-data", ["middlebury/Army"]),
    ("chairs", "data", [f"chairs/{i:05d}" for i in (1, 2, 3, 4)]),
])
def test_a_folder_within_opens_what_lies_below(layout: str, below: str, names: list[str], tmp_path: Path) -> None:
    LAYOUTS[layout][0](tmp_path)
    sources = open_shots(tmp_path / below, camera=CAMERA)
    assert [source.name for source in sources] == names
    if "test" in below.lower() or "eval" in below:
        assert all(_truth(source, 0, 1) is None for source in sources)


def test_the_split_of_chairs(tmp_path: Path) -> None:
    _chairs(tmp_path)
    (tmp_path / "chairs_split.txt").write_text("1\n2\n1\n2\n")
    assert [s.name for s in open_shots(tmp_path, camera=CAMERA)] == ["chairs/00001", "chairs/00003"]
    assert [s.name for s in open_shots(tmp_path / "validation", camera=CAMERA)] == ["chairs/00002", "chairs/00004"]
    assert open_source(tmp_path / "data" / "00002_img2.ppm", camera=CAMERA).name == "chairs/00002"
    for text, found in (("1\n2\n1\n", "found 3 lines for 4 pairs"), ("1\n2\n1\n3\n", "1 = train or 2 = validation")):
        (tmp_path / "chairs_split.txt").write_text(text)
        with pytest.raises(DataError, match=rf"chairs_split.txt: .*{found}"):
            open_shots(tmp_path, camera=CAMERA)


def test_invalid_and_occluded_pixels(tmp_path: Path) -> None:
    _sintel(tmp_path / "Sintel")
    truth = _truth(open_source(tmp_path / "Sintel/training/clean/alley_1", camera=CAMERA), 0, 1)
    assert truth is not None
    assert truth.visible is not None
    np.testing.assert_array_equal(truth.valid, ~_corner()[::-1])
    np.testing.assert_array_equal(truth.visible, _in_view() & ~np.roll(_corner(), 9, axis=1) & truth.valid)
    _kitti(tmp_path / "KITTI")
    source = open_source(tmp_path / "KITTI/training/image_2/000000_10.png", camera=CAMERA)
    truth, static = _truth(source, 0, 1), source.truth(0).static
    assert truth is not None
    assert static is not None
    np.testing.assert_array_equal(truth.valid, ~_corner())
    np.testing.assert_array_equal(truth.visible, _in_view() & ~_corner() & ~_corner()[::-1])
    np.testing.assert_array_equal(static, ~_corner()[:, ::-1])
    assert source.truth(1).static is None
    _middlebury(tmp_path / "Middlebury")
    truth = _truth(open_source(tmp_path / "Middlebury/other-data/Urban", camera=CAMERA), 0, 1)
    assert truth is not None
    assert truth.visible is None
    np.testing.assert_array_equal(truth.valid, ~_corner())


def test_flow_of_another_numbering_is_not_taken(tmp_path: Path) -> None:
    """Of a scene that lacks a frame, the flow into the missing one is not that into the next there is."""
    _sintel(tmp_path)
    (tmp_path / "training/clean/alley_1/frame_0002.png").unlink()
    source = open_source(tmp_path / "training/clean/alley_1", camera=CAMERA)
    assert len(source) == 2
    assert _truth(source, 0, 1) is None


def test_broken_files_are_named_when_they_are_read(tmp_path: Path) -> None:
    _kitti(tmp_path)
    training = tmp_path / "training"
    write_flow_png(training / "flow_noc/000000_10.png", _flow()[:-1])
    (training / "flow_occ/000001_10.png").write_bytes(b"\x89PNG")
    write_image(training / "image_2/000001_11.png", np.zeros((HEIGHT, WIDTH - 1, 3), np.uint8))
    first, second = open_shots(tmp_path, camera=CAMERA)
    with pytest.raises(DataError, match="flow_noc/000000_10.png: 19x30 pixels, but 000000_10.png has 20x30"):
        _truth(first, 0, 1)
    with pytest.raises(DataError, match="flow_occ/000001_10.png"):
        _truth(second, 0, 1)
    with pytest.raises(DataError, match="image_2/000001_11.png: 20x29 pixels, but 000001_10.png has 20x30"):
        second.image(1)
    with pytest.raises(DataError, match="no frame 2"):
        first.image(2)


def test_missing_partners_and_cameras_are_said_on_opening(tmp_path: Path) -> None:
    _chairs(tmp_path)
    with pytest.raises(UnknownCameraError, match="00001_img1.ppm: its camera is not known"):
        open_shots(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        open_shots(tmp_path / "training", camera=CAMERA)
    (tmp_path / "data" / "00002_img2.ppm").unlink()
    with pytest.raises(DataError, match="00002_img2.ppm: is missing; 00002_img1.ppm is the first frame of a pair"):
        open_shots(tmp_path, camera=CAMERA)


def test_flow_formats_are_told_by_their_suffix(tmp_path: Path) -> None:
    write_pfm(tmp_path / "grey.pfm", np.ones((3, 4), np.float32))
    for name in ("grey.pfm", "image.jpg"):
        with pytest.raises(DataError, match=f"{name}: expected a flow file"):
            read_flow(tmp_path / name)
    value = np.zeros((3, 4, 3), np.float32)
    value[1, 2] = np.nan
    write_pfm(tmp_path / "flow.pfm", value)
    assert np.argwhere(~read_flow(tmp_path / "flow.pfm")[1]).tolist() == [[1, 2]]


def test_folders_that_lie_in_a_data_set_but_are_none_of_it_are_plain(tmp_path: Path) -> None:
    _sintel(tmp_path)
    _images(tmp_path / "mine", ["0.png", "1.png"])
    assert find_shots(tmp_path / "mine") == ("", [])
    assert open_source(tmp_path / "mine", camera=CAMERA).name == "mine"
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "training" / "claen", camera=CAMERA)


def test_training_clips_bring_the_flow(tmp_path: Path) -> None:
    _things(tmp_path)
    sources = open_sources(DataConfig(paths=(str(tmp_path),)), needs_camera=False)
    dataset = ClipDataset(sources, length=2, target=0, height=HEIGHT, width=WIDTH // 2, with_truth=True)
    assert len(dataset) == 4
    truth = dataset[3].truth
    assert truth is not None
    assert truth.flow[0, 1][0, :, 5, 5].tolist() == [SPEED[0] / 2, SPEED[1]]
    assert truth.flow[1, 0][0, :, 5, 5].tolist() == [-SPEED[0] / 2, -SPEED[1]]


def test_many_pairs_open_without_reading_them(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pairs = 4000
    for number in range(1, pairs + 1):
        for end in ("img1.ppm", "img2.ppm", "flow.flo"):
            (tmp_path / "data" / f"{number:05d}_{end}").touch()
    # The first alone is looked at: the others are empty files.
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "data" / "00001_img1.ppm")
    begun = time.perf_counter()
    assert len(open_shots(tmp_path, camera=CAMERA)) == pairs
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(("name", "pairs", "factor"), [("flyingchairs-6", 4, 1.8), ("middlebury-rubberwhale", 1, 3.0)])
def test_true_flow_explains_real_pairs(shared_data: Path, name: str, pairs: int, factor: float) -> None:
    """Warping frame 2 by the true flow beats leaving it by ``factor``, though hidden pixels are not left out."""
    sources = open_shots(shared_data / name, camera=CAMERA)
    assert len(sources) == pairs
    for source in sources:
        truth = _truth(source, 0, 1)
        assert truth is not None
        image_a, image_b = (torch.from_numpy(source.image(i)).permute(2, 0, 1)[None].float() for i in (0, 1))
        warped, inside = backward_warp(image_b, torch.from_numpy(truth.flow_ab)[None])
        use = (inside & torch.from_numpy(truth.valid)).expand_as(warped)
        still, moved = ((image - image_a).abs()[use].mean() for image in (image_b, warped))
        assert float(still / moved) > factor, (source.name, float(still / moved))


def test_the_known_part_of_rubber_whale(shared_data: Path) -> None:
    truth = _truth(open_source(shared_data / "middlebury-rubberwhale", camera=CAMERA), 0, 1)
    assert truth is not None
    assert truth.valid.mean() == pytest.approx(0.984, abs=1e-3)
    assert np.linalg.norm(truth.flow_ab, axis=0)[truth.valid].max() == pytest.approx(4.6, abs=0.1)


def test_pairs_without_flow_are_plain_footage(shared_data: Path) -> None:
    source = open_source(shared_data / "flyingthings-rgbd-pair")
    assert (len(source), source.frame_name(0), source.camera.width) == (2, "image1", 960)
    assert find_shots(shared_data / "flyingthings-rgbd-pair") == ("", [])
