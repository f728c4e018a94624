"""One test per rule of docs/conventions.md that geometry, types or losses decide, with its worked numbers."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch

from egoflow.errors import ShapeError
from egoflow.geometry import pixels
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import backward_warp, pixels_from_flow, reproject, rigid_flow
from egoflow.geometry.se3 import SE3
from egoflow.losses.masks import in_view
from egoflow.losses.reduce import masked_mean, masked_sum_count
from egoflow.types import Clip, Prediction, Truth

D = torch.float64
SOURCE = Path(__file__).resolve().parents[2] / "src" / "egoflow"


def camera(focal: float = 10.0, centre: float = 1.5, size: int = 4) -> Camera:
    numbers = {k: torch.tensor([v], dtype=D) for k, v in (("fx", focal), ("fy", focal), ("cx", centre), ("cy", centre))}
    return Camera(**numbers, height=size, width=size)


def test_axes() -> None:
    """1. Camera x right, y down, z forward."""
    right, down, ahead = (torch.tensor(v, dtype=D).view(1, 1, 1, 3) for v in ([1.0, 0, 5], [0.0, 1, 5], [0.0, 0, 5]))
    centre = camera().project(ahead)[0].flatten()
    assert (camera().project(right)[0].flatten() - centre).tolist() == [2, 0]
    assert (camera().project(down)[0].flatten() - centre).tolist() == [0, 2]
    assert camera().project(ahead)[1].all()
    assert not camera().project(-ahead)[1].any()


def test_transform_names() -> None:
    """2. b_from_a maps points of a to b; inner names cancel; other names are banned."""
    b_from_a = SE3(torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=D), torch.tensor([0.0, 0, 2], dtype=D))
    assert b_from_a.apply(torch.tensor([1.0, 0, 0], dtype=D)).tolist() == [0, 1, 2]
    c_from_b = SE3.exp(torch.tensor([0.0, 5, 0, 0, 0, 0], dtype=D))
    assert (c_from_b @ b_from_a).apply(torch.tensor([1.0, 0, 0], dtype=D)).tolist() == [0, 6, 2]
    banned = re.compile(r"\b(Tcw|Twc|c2w|w2c|extrinsics?|pose|T)\s*(:[^=]*)?=[^=]")
    found = [f"{path.name}: {line.strip()}" for path in SOURCE.rglob("*.py") for line in path.read_text().splitlines()
             if banned.match(line.strip())]
    assert found == []


def test_pairs() -> None:
    """3. A pair (a, b) lives on the grid of a and points to b: image_b_on_a looks like image a."""
    image_a = torch.zeros(1, 1, 5, 8)
    image_a[0, 0, 2, 3] = 1
    image_b = torch.zeros(1, 1, 5, 8)
    image_b[0, 0, 2, 5] = 1  # the thing moved right by 2
    flow_ab = torch.tensor([2.0, 0]).view(1, 2, 1, 1).expand(1, 2, 5, 8)
    image_b_on_a, visible_ab = backward_warp(image_b, flow_ab)
    assert torch.allclose(image_b_on_a, image_a)
    assert visible_ab[0, 0, 0].tolist() == [True] * 6 + [False] * 2


def test_pixel_centres() -> None:
    """4. Pixel centres are integers; W = 4: x = 0, 1, 3 -> -.75, -.25, .75; one file calls grid_sample."""
    assert pixels.pixel_grid(2, 3)[1, 2].tolist() == [2, 1]
    given: list[torch.Tensor] = []
    original = pixels.F.grid_sample

    def spy(image: torch.Tensor, grid: torch.Tensor, **options: object) -> torch.Tensor:
        given.append(grid)
        assert options["align_corners"] is False
        return original(image, grid, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels.F, "grid_sample", spy)
        pixels.sample(torch.rand(1, 1, 4, 4), torch.tensor([[[[0.0, 0], [1, 1], [3, 3]]]]))
    assert given[0][0, 0, :, 0].tolist() == [-0.75, -0.25, 0.75]
    assert [p.name for p in SOURCE.rglob("*.py") if "grid_sample(" in p.read_text()] == ["pixels.py"]


def test_resizing() -> None:
    """5. f' = f s, c' = (c + .5) s - .5, flow times s, depth unchanged."""
    small = camera(centre=1.5, size=4).resized(height=2, width=2)
    assert (small.fx.item(), small.cx.item()) == (5, 0.5)
    flow = pixels.resize_flow(torch.full((1, 2, 4, 4), 3.0), height=2, width=2)
    assert torch.equal(flow, torch.full((1, 2, 2, 2), 1.5))
    depth = pixels.resize_map(torch.full((1, 1, 4, 4), 7.0), height=2, width=2)
    assert torch.equal(depth, torch.full((1, 1, 2, 2), 7.0))


def test_resized_camera_and_depth_give_the_resized_flow() -> None:
    """5. again: the rules fit each other."""
    cam, b_from_a = camera(focal=30, centre=11.5, size=24), SE3.exp(torch.tensor([[0.3, 0.1, 0.2, 0, 0, 0.0]], dtype=D))
    depth = torch.full((1, 1, 24, 24), 6.0, dtype=D)
    full, _ = rigid_flow(depth, cam, b_from_a)
    small, _ = rigid_flow(pixels.resize_map(depth, height=8, width=8), cam.resized(height=8, width=8), b_from_a)
    assert (pixels.resize_flow(full, height=8, width=8) - small).abs().max() < 1e-12


def test_coordinates_and_sizes() -> None:
    """6. Coordinates are (x, y), sizes (height, width), maps [B, C, H, W], points [..., 3], clips [B, N, 3, H, W]."""
    assert pixels.pixel_grid(3, 5).shape == (3, 5, 2)
    assert pixels.pixel_grid(3, 5)[2, 4].tolist() == [4, 2]
    cam = dataclasses.replace(camera(), height=3, width=5)
    assert cam.unproject(torch.ones(1, 1, 3, 5, dtype=D)).shape == (1, 3, 5, 3)
    with pytest.raises(ShapeError, match=r"\[B, N, 3, H, W\]"):
        Clip(images=torch.zeros(1, 3, 5, 3, 3), camera=cam, time_s=torch.zeros(1, 3), target=0)


def test_cameras_travel() -> None:
    """7. Every crop, resize, flip and pad carries the camera; a clip refuses a camera of another size."""
    cam = camera()
    assert cam.cropped(top=1, left=1, height=2, width=2).cx.item() == 0.5
    assert cam.padded(left=2).cx.item() == 3.5
    assert dataclasses.replace(cam, cx=torch.tensor([1.0])).flipped().cx.item() == 2
    with pytest.raises(ShapeError, match="resize the camera with the images"):
        Clip(images=torch.zeros(1, 3, 3, 8, 8), camera=cam, time_s=torch.zeros(1, 3), target=1)


def test_depth_is_z() -> None:
    """8. Depth is z, not the length of the ray."""
    points = camera(focal=1.0).unproject(torch.full((1, 1, 4, 4), 2.0, dtype=D))
    assert torch.equal(points[..., 2], torch.full((1, 4, 4), 2.0, dtype=D))
    assert points[0, 0, 0].norm() > 2
    assert Prediction().scale == "relative"


def test_flow() -> None:
    """9. Flow is in pixels of its own size, (x, y): x_b = x_a + flow_ab(x_a)."""
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0], flow[:, 1] = 2, -1
    assert pixels_from_flow(flow)[0, 1, 1].tolist() == [3, 0]
    moved, _ = rigid_flow(torch.full((1, 1, 4, 4), 5.0, dtype=D), camera(),
                          SE3.exp(torch.tensor([[1.0, 0, 0, 0, 0, 0]], dtype=D)))
    assert torch.allclose(moved[0, :, 0, 0], torch.tensor([2.0, 0], dtype=D))


def test_validity() -> None:
    """10. Validity is bool, True = use; under False anything may stand."""
    flow = torch.zeros(1, 2, 2, 3)
    flow[0, 0, 0, 2], flow[0, 0, 1, 0] = 1.0, torch.nan
    use = in_view(flow)
    assert use.dtype == torch.bool
    assert use[0, 0].tolist() == [[True, True, False], [False, True, True]]
    value = torch.where(use, torch.ones(1, 1, 2, 3), torch.nan)
    assert masked_mean(value, use) == 1


def test_tangents() -> None:
    """12. Tangents are (v, omega) in radians; geometry runs in float32 with autocast off."""
    quarter = SE3.exp(torch.tensor([0.0, 0, 0, 0, 0, math.pi / 2], dtype=D))
    assert torch.allclose(quarter.apply(torch.tensor([1.0, 0, 0], dtype=D)), torch.tensor([0.0, 1, 0], dtype=D))
    assert SE3.exp(torch.tensor([1.0, 0, 0, 0, 0, 0])).t.tolist() == [1, 0, 0]
    depth, b_from_a = torch.ones(1, 1, 4, 4, dtype=torch.bfloat16), SE3.identity(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        xy, z, _ = reproject(depth, camera().to(torch.float32), b_from_a)
    assert (xy.dtype, z.dtype) == (torch.float32, torch.float32)


def test_losses_are_maps() -> None:
    """14. Losses are maps until masked_mean; an empty mask gives 0 in the graph; metrics add sums and counts."""
    value = torch.arange(8.0).view(2, 1, 2, 2).requires_grad_()
    none = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    empty = masked_mean(value, none)
    empty.backward()
    assert empty == 0
    assert torch.equal(value.grad, torch.zeros_like(value))
    halves = [masked_sum_count(v) for v in value.split(1)]
    total, count = masked_sum_count(value)
    assert sum(h[0] for h in halves) / sum(h[1] for h in halves) == total / count == 3.5


def test_moving_a_prediction_moves_all_of_it() -> None:
    """Types travel whole: what a dictionary or a list holds is moved and sliced too."""
    prediction = Prediction(inv_depth={0: [torch.ones(2, 1, 2, 2)]}, motion={(0, 1): SE3.identity(2)},
                            flow={(0, 1): [torch.ones(2, 2, 2, 2)]}, camera=camera().repeated(2))
    moved = prediction.to(torch.float16)
    assert moved.inv_depth[0][0].dtype == moved.flow[0, 1][0].dtype == moved.motion[0, 1].t.dtype == torch.float16
    assert prediction[:1].inv_depth[0][0].shape[0] == prediction[:1].motion[0, 1].t.shape[0] == 1
    clip = Clip(images=torch.zeros(2, 3, 3, 4, 4), camera=camera().repeated(2), time_s=torch.zeros(2, 3), target=1,
                truth=Truth(depth=torch.ones(2, 3, 1, 4, 4)), key=("a", "b"))
    assert clip[1:].key == ("b",)
    assert clip[1:].truth.depth.shape[0] == 1
