"""PLY files go round, and damaged ones are named."""

from pathlib import Path

import numpy as np
import pytest

from egoflow.data.ply import read_ply, write_ply
from egoflow.errors import DataError

POINTS = np.array([[0.0, 1, 2], [3, 4, 5], [6, 7, 8.5]])
COLOURS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 255]], np.uint8)


def test_points_and_meshes_go_round(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", POINTS, COLOURS, remark="x right, y down, z forward; relative scale")
    points, colours, faces = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(points, POINTS.astype(np.float32))
    np.testing.assert_array_equal(colours, COLOURS)
    assert faces is None
    write_ply(tmp_path / "b.ply", POINTS, COLOURS, faces=np.array([[0, 1, 2], [2, 1, 0]]))
    np.testing.assert_array_equal(read_ply(tmp_path / "b.ply")[2], [[0, 1, 2], [2, 1, 0]])


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    """Written out by hand after the format's description: what any other reader sees."""
    write_ply(tmp_path / "a.ply", POINTS[:1], COLOURS[:1], faces=np.array([[0, 0, 0]]))
    head, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    assert head.decode().splitlines() == [
        "ply", "format binary_little_endian 1.0", "element vertex 1", "property float x", "property float y",
        "property float z", "property uchar red", "property uchar green", "property uchar blue", "element face 1",
        "property list uchar int vertex_indices"]
    assert body == np.array([0, 1, 2], "<f4").tobytes() + bytes([1, 2, 3]) + bytes([3]) + bytes(12)


def test_damage_is_named(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", POINTS, COLOURS)
    whole = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "short.ply").write_bytes(whole[:-3])
    with pytest.raises(DataError, match=r"short\.ply: the file is cut short"):
        read_ply(tmp_path / "short.ply")
    (tmp_path / "other.ply").write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(DataError, match=r"other\.ply: expected a binary"):
        read_ply(tmp_path / "other.ply")
    with pytest.raises(DataError, match="not finite"):
        write_ply(tmp_path / "nan.ply", np.full((1, 3), np.nan), COLOURS[:1])
    assert not (tmp_path / "nan.ply").exists()
