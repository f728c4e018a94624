"""File formats: values against hand-made bytes, round trips, and arbitrary bytes that must fail in one line."""

import errno
import json
import math
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from egoflow.data import formats
from egoflow.data.cameras import parse_camera, read_camera, write_camera
from egoflow.data.files import atomic, frame_number, natural_key
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _png(value: np.ndarray) -> bytes:
    """Encode a 16-bit grey or RGB array without the code under test."""
    channels = 1 if value.ndim == 2 else 3
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in value)
    header = struct.pack(">IIBBBBB", value.shape[1], value.shape[0], 16, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
                      for n, d in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_depth_png_holds_metres_times_256(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    path.write_bytes(_png(np.array([[0, 256, 65535], [1, 640, 25600]], np.uint16)))
    depth, valid = formats.read_depth_png(path)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 1, 255.99609375], [1 / 256, 2.5, 100]], rtol=1e-7)
    np.testing.assert_array_equal(valid, [[False, True, True], [True, True, True]])
    assert formats.read_depth_png(path, units_per_metre=5000)[0][1, 2] == pytest.approx(5.12)


def test_depth_that_16_bits_cannot_hold_is_unknown(tmp_path: Path) -> None:
    depth = np.array([[np.nan, -1.0, 0.0, 256.0, 255.9, 1e-4, 3.0, np.inf]])
    valid = np.array([[True, True, True, True, True, True, False, True]])
    formats.write_depth_png(tmp_path / "d.png", depth, valid)
    read, good = formats.read_depth_png(tmp_path / "d.png")
    np.testing.assert_array_equal(good, [[False, False, False, False, True, True, False, False]])
    np.testing.assert_allclose(read[good], [255.9, 1 / 256], atol=1 / 512)


def test_flow_png_is_kittis(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    value = np.array([[[32768 + 64, 32768 - 128, 1], [5, 5, 0]]], np.uint16)
    path.write_bytes(_png(value))
    flow, valid = formats.read_flow_png(path)
    np.testing.assert_array_equal(flow, [[[1, -2], [0, 0]]])
    np.testing.assert_array_equal(valid, [[True, False]])
    formats.write_flow_png(tmp_path / "g.png", flow, valid)
    again = cv2.imread(str(tmp_path / "g.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(again[0, 0], [32832, 32640, 1])
    assert again[0, 1, 2] == 0


def test_flow_png_marks_what_does_not_fit(tmp_path: Path) -> None:
    flow = np.array([[[511.0, 0], [513, 0], [np.nan, 0]]], np.float32)
    formats.write_flow_png(tmp_path / "f.png", flow)
    np.testing.assert_array_equal(formats.read_flow_png(tmp_path / "f.png")[1], [[True, False, False]])


def test_flo_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.flo"
    path.write_bytes(b"PIEH" + struct.pack("<ii4f", 2, 1, 1.5, -2.5, 1666666752.0, 0.0))
    flow, valid = formats.read_flo(path)
    np.testing.assert_array_equal(flow, [[[1.5, -2.5], [0, 0]]])
    np.testing.assert_array_equal(valid, [[True, False]])
    formats.write_flo(tmp_path / "g.flo", flow, valid)
    data = (tmp_path / "g.flo").read_bytes()
    assert data[:20] == path.read_bytes()[:20]
    assert struct.unpack_from("<f", data, 20)[0] > 1e9


def test_pfm_rows_run_upwards(tmp_path: Path) -> None:
    path = tmp_path / "p.pfm"
    path.write_bytes(b"Pf\n2 2\n1.0\n" + struct.pack(">4f", 1, 2, 3, 4))
    np.testing.assert_array_equal(formats.read_pfm(path), [[3, 4], [1, 2]])
    value = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    formats.write_pfm(path, value)
    np.testing.assert_array_equal(formats.read_pfm(path), value)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1], value)


@quick
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_round_trips(tmp_path: Path, height: int, width: int, random: object) -> None:
    generator = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    flow = generator.normal(size=(height, width, 2)).astype(np.float32) * 50
    valid = generator.random((height, width)) < 0.7
    depth = generator.uniform(0.5, 200, (height, width)).astype(np.float32)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for suffix, write, read, value, step in (
            ("flo", formats.write_flo, formats.read_flo, flow, 0),
            ("png", formats.write_flow_png, formats.read_flow_png, flow, 1 / 128),
            ("png", formats.write_depth_png, formats.read_depth_png, depth, 1 / 512),
            ("npz", formats.write_depth_npz, formats.read_depth_npz, depth, 0)):
        write(tmp_path / f"a.{suffix}", value, valid)
        again, good = read(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(good, valid)
        np.testing.assert_allclose(again[good], value[good], rtol=0, atol=step + 1e-6)
        assert not again[~good].any()
    formats.write_image(tmp_path / "i.png", image)
    np.testing.assert_array_equal(formats.read_image(tmp_path / "i.png"), image)
    formats.write_mask(tmp_path / "m.png", valid)
    np.testing.assert_array_equal(formats.read_mask(tmp_path / "m.png"), valid)


def test_images_come_upright_and_in_rgb(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2), (10, 20, 30))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "phone.jpg", exif=exif, quality=100)
    upright = formats.read_image(tmp_path / "phone.jpg")
    assert upright.shape == (4, 2, 3)
    assert np.abs(upright.astype(int) - (10, 20, 30)).max() <= 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK", "LA"])
def test_image_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.new(mode, (3, 2)).save(path)
    image = formats.read_image(path)
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)


def test_16_bit_grey_images_keep_their_contrast(tmp_path: Path) -> None:
    (tmp_path / "thermal.png").write_bytes(_png(np.array([[0, 65535, 32896]], np.uint16)))
    np.testing.assert_array_equal(formats.read_image(tmp_path / "thermal.png")[0, :, 0], [0, 255, 128])


READERS = (formats.read_flo, formats.read_flow_png, formats.read_depth_png, formats.read_pfm, formats.read_npz,
           formats.read_depth_npz, formats.read_image, formats.read_mask, read_camera)


def _valid_files() -> list[bytes]:
    """Return one valid file of every format, for damage."""
    grey, colour = np.full((3, 4), 900, np.uint16), np.full((3, 4, 3), 900, np.uint16)
    jpeg = cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    return [_png(grey), _png(colour), jpeg, b"PIEH" + struct.pack("<ii4f", 2, 1, 1, 2, 3, 4),
            b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 1, 2), json.dumps(
                {"fx": 90, "fy": 90, "cx": 30, "cy": 20, "height": 40, "width": 60}).encode(), b"90 0 9 0 90 9 0 0 1"]


def _fails_in_one_line(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for read in READERS:
        message = path.name
        try:
            read(path)
        except DataError as error:
            message = str(error)
        assert path.name in message
        assert "\n" not in message


@quick
@given(st.binary(max_size=300))
def test_arbitrary_bytes_fail_in_one_line(tmp_path: Path, data: bytes) -> None:
    _fails_in_one_line(tmp_path / "fuzz.bin", data)


@settings(quick, max_examples=150)
@given(st.data())
def test_damaged_files_fail_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    valid = bytearray(data.draw(st.sampled_from(_valid_files())))
    for _ in range(data.draw(st.integers(1, 4))):
        valid[data.draw(st.integers(0, len(valid) - 1))] = data.draw(st.integers(0, 255))
    _fails_in_one_line(tmp_path / "fuzz.bin", bytes(valid[:data.draw(st.integers(0, len(valid)))]) or bytes(valid))


@settings(quick, max_examples=80)
@given(st.data())
def test_damaged_npz_fails_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, depth=np.ones((3, 4), np.float32))
    valid = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        valid[data.draw(st.integers(0, len(valid) - 1))] = data.draw(st.integers(0, 255))
    _fails_in_one_line(path, bytes(valid))


def test_npz_runs_no_pickle(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", depth=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="plain numbers"):
        formats.read_npz(tmp_path / "evil.npz")


@pytest.mark.parametrize(("data", "read", "message"), [
    (b"PIEH" + struct.pack("<ii", 2**30, 2**30), formats.read_flo, "claims"),
    (b"PIEH" + struct.pack("<ii", -5, 7), formats.read_flo, "claims"),
    (b"PIEH" + struct.pack("<ii", 1000, 1000) + bytes(64), formats.read_flo, "truncated"),
    (b"Pf\n9999 9999\n-1\n" + bytes(64), formats.read_pfm, "truncated"),
    (b"junk", formats.read_flo, "202021.25"),
    (b"", formats.read_image, "not a readable image"),
    (_png(np.ones((40, 40), np.uint16))[:-20], formats.read_depth_png, "damaged PNG"),
    (_png(np.ones((4, 4, 3), np.uint16)), formats.read_depth_png, "1 channel"),
])
def test_headers_are_checked_before_allocating(tmp_path: Path, data: bytes, read: object, message: str) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "f")  # type: ignore[operator]


def test_a_truncated_jpeg_is_refused_not_greyed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    formats.write_image(tmp_path / "a.jpg", noise)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:len(data) // 2])
    with pytest.raises(DataError, match="a.jpg"):
        formats.read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("read", READERS)
def test_missing_files_and_folders(tmp_path: Path, read: object) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none")  # type: ignore[operator]
    with pytest.raises(DataError, match="found a folder"):
        read(tmp_path)  # type: ignore[operator]


def test_atomic_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert temporary.parent == path.parent
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="a.flo: cannot be written: the disk is full") as caught:
        formats.write_flo(tmp_path / "a.flo", np.zeros((2, 2, 2)))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_names_sort_as_people_count() -> None:
    names = ["f10.png", "f9.png", "F1.png", "f2b.png", "f2.png", "a.png"]
    assert sorted(names, key=natural_key) == ["a.png", "F1.png", "f2.png", "f2b.png", "f9.png", "f10.png"]
    assert [frame_number(n) for n in ("rgb_00012", "000300", "a")] == [12, 300, None]


def _numbers(camera: Camera) -> list[float]:
    return [round(float(v), 4) for v in (camera.fx, camera.fy, camera.cx, camera.cy)] + [camera.height, camera.width]


def test_camera_json_round_trip(tmp_path: Path) -> None:
    camera = Camera.create(721.5377, 700, 609.5593, 172.854, height=375, width=1242)
    write_camera(tmp_path / "c.json", camera)
    assert _numbers(read_camera(tmp_path / "c.json")) == _numbers(camera)
    half = read_camera(tmp_path / "c.json", height=375 * 2, width=1242 * 2)
    assert float(half.cx) == pytest.approx((609.5593 + 0.5) * 2 - 0.5, rel=1e-6)


def test_camera_text_needs_a_size(tmp_path: Path) -> None:
    path = tmp_path / "k.txt"
    path.write_text("100 0 50 # a comment\n0 110 40\n0 0 1\n")
    assert _numbers(read_camera(path, height=80, width=100)) == [100, 110, 50, 40, 80, 100]
    with pytest.raises(DataError, match="image size"):
        read_camera(path)


@pytest.mark.parametrize(("text", "message"), [
    ("0.58 0 0.5 0 1.92 0.5 0 0 1", "normalised"), ("-5 0 30 0 50 20 0 0 1", "positive"),
    ("nan 0 30 0 50 20 0 0 1", "expected intrinsics"), ("50 0 30 0 50 20", "found 6"),
    ("50 9 30 0 50 20 0 0 1", "skew"),
    ('{"fx": 50}', "'fy' must be a number"), ('{"fx": 50, "fy": 50, "cx": 3e2, "cy": 20}', "outside"),
    ('{"fx": 50, "fy": 50, "cx": 30, "cy": 20, "height": 60, "width": 40}', "another shape"), ("{", "JSON"),
])
def test_bad_cameras_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_camera(tmp_path / "bad.txt", height=40, width=60)
    assert "bad.txt" in str(caught.value)


def test_parse_camera_takes_three_forms(tmp_path: Path) -> None:
    fov = parse_camera("fov=90", height=60, width=100)
    for height, width in ((60, 100), (100, 60)):
        assert float(parse_camera("long_fov=90", height=height, width=width).fx) == pytest.approx(50)
    assert _numbers(fov) == [50, 50, 49.5, 29.5, 60, 100]
    # The outermost pixel edges, half a pixel beyond the centres, span the stated angle.
    assert 2 * math.degrees(math.atan(50 / float(fov.fx))) == pytest.approx(90)
    assert _numbers(parse_camera("80,81, 50,30", height=60, width=100)) == [80, 81, 50, 30, 60, 100]
    write_camera(tmp_path / "c.json", fov)
    assert _numbers(parse_camera(str(tmp_path / "c.json"), height=60, width=100)) == _numbers(fov)


@pytest.mark.parametrize("text", ["fov=abc", "fov=500", "1,2,3", "1,2,3,x", "nowhere.json", "fov=--"])
def test_parse_camera_says_what_it_takes(text: str) -> None:
    with pytest.raises(DataError, match="fov|fx,fy,cx,cy"):
        parse_camera(text, height=60, width=100)
