"""Clouds, meshes and COLMAP models of a method that knows the truth lie on the true scene."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.cli import main
from egoflow.data.formats import write_image
from egoflow.data.ply import read_ply
from egoflow.errors import DataError
from egoflow.geometry.se3 import SE3, rotation_from_quaternion_xyzw
from egoflow.inference.cloud import plain_and_far
from egoflow.inference.cloud_writer import _Reader, write_scene
from egoflow.inference.stream import predict_stream
from egoflow.inference.writer import PredictionWriter
from egoflow.worlds.base import World, load_world
from inference.stubs import Oracle, run_of


@pytest.fixture(scope="module")
def wall() -> World:
    return load_world("plane", seed=1, frames=6, height=48, width=64, distance_m=12.0, cell_m=0.6)


@pytest.fixture(scope="module")
def folder(wall: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, run = tmp_path_factory.mktemp("scene"), run_of(wall)
    with PredictionWriter(out, source=wall, run=run, depth_format="npz", video=False, two_view=False) as writer:
        for frame in predict_stream(Oracle(wall), run, wall):
            writer.add(frame)
        writer.finish()
    assert write_scene(out, wall, range(len(wall)), also=("cloud", "mesh", "colmap"))["points"] > 500
    return out


def plane_of(wall: World) -> tuple[np.ndarray, float]:
    """Return the unit normal and the distance of the wall in the first camera's axes, from its exact depth."""
    depth = torch.from_numpy(wall.truth(0).depth).double()
    points = wall.camera.unproject(depth[None, None])[0].numpy().reshape(-1, 3)
    normal = np.linalg.lstsq(points, np.ones(len(points)), rcond=None)[0]
    return normal / np.linalg.norm(normal), 1 / float(np.linalg.norm(normal))


@pytest.mark.parametrize("name", ["cloud.ply", "mesh.ply"])
def test_points_lie_on_the_wall(name: str, folder: Path, wall: World) -> None:
    points, colours, faces = read_ply(folder / name)
    normal, distance = plane_of(wall)
    off = np.abs(points @ normal - distance)
    # A cell is a hundredth of the depth, a voxel at most a hundredth of the extent.
    assert np.quantile(off, 0.99) < 0.01 * distance
    assert len(np.unique(colours, axis=0)) > 20
    assert (faces is not None) == (name == "mesh.ply")


def test_what_moves_and_what_the_next_frame_sees_elsewhere_is_left_out(folder: Path, wall: World, tmp_path: Path
                                                                      ) -> None:
    def used() -> list[np.ndarray]:
        return [frame.use for frame in _Reader(tmp_path / "run", wall, range(6)).frames(range(6))]

    shutil.copytree(folder, tmp_path / "run")
    before = used()
    assert all(use.mean() > 0.6 for use in before)
    mover = np.zeros((48, 64, 3), np.uint8)
    mover[:, :32] = 255
    write_image(tmp_path / "run" / "mover" / "000001.png", mover)
    wrong = tmp_path / "run" / "depth" / "000004.npz"
    with np.load(wrong) as known:
        stored = {name: 1.5 * known[name] for name in known}
    np.savez(wrong, **stored)
    after = used()
    assert not after[1][:, :32].any()
    assert np.array_equal(after[1][:, 32:], before[1][:, 32:])
    for number in (3, 4):
        assert after[number].mean() < 0.3 * before[number].mean()
    for number in (0, 2):
        assert np.array_equal(after[number], before[number])


def test_the_colmap_model_projects_its_points_into_its_images(folder: Path, wall: World) -> None:
    """Read back by hand, with COLMAP's own conventions: cam_from_world, and pixel centres at halves."""
    camera = (folder / "colmap" / "cameras.txt").read_text().splitlines()[1].split()
    assert camera[1:4] == ["PINHOLE", "64", "48"]
    fx, fy, cx, cy = map(float, camera[4:])
    lines, listed = ([line for line in (folder / "colmap" / name).read_text().splitlines()
                      if line and not line.startswith("#")] for name in ("images.txt", "points3D.txt"))
    assert len(lines) == len(wall)
    assert (folder / "colmap" / "images.txt").read_text().splitlines()[0].endswith(" scale")
    points = np.array([list(map(float, line.split()[1:4])) for line in listed])
    for index, line in enumerate(lines):
        number, qw, qx, qy, qz, tx, ty, tz, camera_id, name = line.split()
        assert (number, camera_id, name) == (str(index + 1), "1", f"{index:06d}.jpg")
        assert (folder / "colmap" / "images" / name).exists()
        turn = rotation_from_quaternion_xyzw(torch.tensor([float(v) for v in (qx, qy, qz, qw)], dtype=torch.float64))
        cam_from_world = SE3(turn, torch.tensor([float(tx), float(ty), float(tz)], dtype=torch.float64))
        seen = cam_from_world.apply(torch.from_numpy(points)).numpy()
        u, v = seen[:, 0] / seen[:, 2] * fx + cx, seen[:, 1] / seen[:, 2] * fy + cy
        depth = wall.truth(index).depth
        # Pixel (0, 0) of COLMAP begins at (0, 0), so flooring names the pixel.
        x, y = np.floor(u).astype(int), np.floor(v).astype(int)
        inside = (x >= 0) & (x < 64) & (y >= 0) & (y < 48) & (seen[:, 2] > 0)
        assert inside.sum() > 300
        np.testing.assert_allclose(seen[inside, 2], depth[y[inside], x[inside]], rtol=0.02)


def test_a_folder_without_depth_is_refused(tmp_path: Path, wall: World) -> None:
    with pytest.raises(DataError, match="no depth or no trajectory"):
        write_scene(tmp_path, wall, range(3), also=("cloud",))


def test_flow_alone_makes_no_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from egoflow.registry import load_preset
    from egoflow.training.checkpoint import State, save

    entry, run = load_preset("joint:tiny")
    save(tmp_path / "last.safetensors", run, entry.method_type(run.config), State())
    words = [str(tmp_path), "world:boxes?frames=3&height=32&width=48", "--out", str(tmp_path / "out")]
    assert main(["predict", *words, "--quantity", "flow", "--also", "cloud"]) == 2
    assert "is made of depth and motion, and flow alone" in capsys.readouterr().err
    assert main(["predict", *words, "--no-video", "--also", "cloud", "colmap"]) == 0
    assert (tmp_path / "out" / "cloud.ply").exists()
    assert (tmp_path / "out" / "colmap" / "points3D.txt").exists()
    assert not (tmp_path / "out" / "mesh.ply").exists()


def test_what_is_plain_and_far_is_left_out() -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    image[20:] = np.random.default_rng(0).integers(0, 255, (20, 60, 3))
    depth = np.tile(np.linspace(1, 10, 60), (40, 1))
    everywhere = np.ones(depth.shape, bool)
    found = plain_and_far(image, depth, everywhere)
    assert found[:12, 31:].all()
    assert not found[:, :29].any()
    assert not found[20:].any()
    assert not plain_and_far(image, depth, ~everywhere).any()
