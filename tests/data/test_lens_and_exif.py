"""What files say of a camera: tags of pictures, and lenses that are taken out of the frames."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egoflow.data.exif import exif_camera
from egoflow.data.lens import Lens, read_lens
from egoflow.data.open import open_source
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera

HEIGHT, WIDTH = 60, 80
CAMERA = {"fx": 70.0, "fy": 71.0, "cx": 39.0, "cy": 30.0, "height": HEIGHT, "width": WIDTH}


def tagged(path: Path, tags: dict[int, object], *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Write an image with these EXIF tags."""
    image, exif = Image.new("RGB", size, (90, 120, 150)), Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    image.save(path, exif=exif)
    return path


def test_the_35_mm_equivalent_is_of_the_diagonal(tmp_path: Path) -> None:
    file = tagged(tmp_path / "a.jpg", {0xA405: 26})
    camera = exif_camera(file, height=HEIGHT, width=WIDTH)
    assert float(camera.fx) == float(camera.fy) == pytest.approx(26 / math.hypot(36, 24) * 100)
    assert (float(camera.cx), float(camera.cy)) == (39.5, 29.5)


def test_the_sensor_s_own_figures_win(tmp_path: Path) -> None:
    """4 mm on a sensor of 4000 pixels over 6.4 mm is 2500 px of 4000."""
    file = tagged(tmp_path / "a.jpg", {0x920A: 4.0, 0xA20E: 4000 / 0.64, 0xA210: 3, 0xA002: 4000, 0xA405: 50})
    assert float(exif_camera(file, height=HEIGHT, width=WIDTH).fx) == pytest.approx(2500 * WIDTH / 4000)


def test_exif_is_a_camera_for_a_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        tagged(tmp_path / name, {0xA405: 26})
    assert float(open_source(tmp_path, camera="exif").camera.fx) == pytest.approx(60.09, abs=0.01)


def test_without_tags_one_line_says_so(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"a\.jpg: its tags tell no focal length; give --camera fov"):
        open_source(tmp_path, camera="exif")


def clip(folder: Path, **more: object) -> Path:
    """Write a clip of two frames of a bent grid, with a camera file."""
    (folder / "image").mkdir(parents=True)
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    image[::6] = image[:, ::8] = 0
    for name in ("000000", "000001"):
        Image.fromarray(image).save(folder / "image" / f"{name}.png")
    (folder / "camera.json").write_text(json.dumps(CAMERA | more))
    return folder


def test_straightened_frames_show_points_where_the_pinhole_does(tmp_path: Path) -> None:
    """A bright dot where Brown's equations put a known ray comes out where that ray meets the pinhole's image."""
    k1, k2, p1, p2 = -0.3, 0.1, 0.002, -0.001
    folder = clip(tmp_path / "clip", distortion=[k1, k2, p1, p2])
    for x, y in ((0.3, 0.2), (-0.35, 0.25), (0.0, -0.3)):
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2
        bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        image = np.zeros((HEIGHT, WIDTH), np.float32)
        u, v = bent_x * 70 + 39, bent_y * 71 + 30
        ys, xs = np.mgrid[:HEIGHT, :WIDTH]
        image = 255 * np.exp(-((xs - u) ** 2 + (ys - v) ** 2) / 4)
        Image.fromarray(np.repeat(image[..., None], 3, 2).astype(np.uint8)).save(folder / "image" / "000000.png")
        seen = open_source(folder).image(0)[..., 0].astype(float)
        place = (seen * xs).sum() / seen.sum(), (seen * ys).sum() / seen.sum()
        assert place == pytest.approx((x * 70 + 39, y * 71 + 30), abs=0.35)


def test_a_given_camera_file_straightens_too_and_no_lens_changes_nothing(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    plain = open_source(folder).image(0)
    (tmp_path / "lens.json").write_text(json.dumps(CAMERA | {"distortion": [-0.3, 0.1]}))
    assert not np.array_equal(open_source(folder, camera=str(tmp_path / "lens.json")).image(0), plain)
    (tmp_path / "none.json").write_text(json.dumps(CAMERA | {"distortion": [0, 0, 0, 0, 0]}))
    assert np.array_equal(open_source(folder, camera=str(tmp_path / "none.json")).image(0), plain)
    assert float(open_source(folder, camera=str(tmp_path / "lens.json")).camera.fx) == 70.0


def test_fisheye_maps_are_the_equidistant_ones() -> None:
    """A ray at angle a lands f (a + k1 a^3 + ...) from the centre."""
    camera = Camera.create(70.0, 70.0, 40.0, 30.0, height=61, width=81)
    x, y = Lens(model="fisheye", coefficients=(0.1, 0.0, 0.0, 0.0)).maps(camera)
    angle = math.atan(35 / 70)
    assert float(x[30, 75]) == pytest.approx(40 + 70 * (angle + 0.1 * angle**3), abs=1e-3)
    assert float(y[30, 75]) == pytest.approx(30.0, abs=1e-3)


@pytest.mark.parametrize(("more", "message"), [
    ({"distortion": [1, 2, 3]}, "'distortion' must be a list of 2 or 4 or 5 or 8 numbers"),
    ({"distortion": "none"}, "'distortion' must be a list"),
    ({"distortion": [0.1, True]}, "'distortion' must be a list"),
    ({"distortion": [0.1] * 5, "model": "fisheye"}, "list of 4 numbers"),
    ({"distortion": [0.1] * 4, "model": "kb4"}, "'model' 'kb4' is not known"),
])
def test_a_wrong_lens_is_one_line(more: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_source(clip(tmp_path / "clip", **more))


def test_cameras_without_a_lens_state_none(tmp_path: Path) -> None:
    assert read_lens(clip(tmp_path / "clip") / "camera.json") is None
    (tmp_path / "broken.json").write_text("{")
    assert read_lens(tmp_path / "broken.json") is None
