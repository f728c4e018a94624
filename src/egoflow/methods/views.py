"""Where depth, camera motion and optical flow of a clip meet: every pair of frames, level by level, on one grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from egoflow.geometry.flow import flow_from_pixels, reproject
from egoflow.geometry.pixels import image_pyramid, resize_image
from egoflow.geometry.se3 import SE3
from egoflow.networks.pwcnet import levels_enlarged
from egoflow.types import Clip, Pair, Prediction

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rigid:
    """What depth and camera motion say of the stacked pairs [P B, …]: where the points of a lie in b."""

    depth_a: Tensor
    depth_b: Tensor
    xy_b: Tensor
    depth_a_in_b: Tensor
    in_front: Tensor
    flow_ab: Tensor
    flow_ba: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """All pairs of a clip at one size, stacked [P B, …]; the second half of the pairs is the first, reversed."""

    image_a: Tensor
    image_b: Tensor
    rigid: Rigid | None
    flow_ab: Tensor | None

    @property
    def flow_ba(self) -> Tensor | None:
        """Return the optical flow of every reversed pair."""
        return None if self.flow_ab is None else reversed_pairs(self.flow_ab)


def both_ways(target: int, sources: Sequence[int]) -> tuple[Pair, ...]:
    """Return the pairs of the target with every source, then the same reversed."""
    return (*((target, s) for s in sources), *((s, target) for s in sources))


def reversed_pairs(value: Tensor) -> Tensor:
    """Return, for every pair of stacked pairs [P B, …], what the reversed pair has."""
    return torch.cat(value.chunk(2)[::-1])


def stacked_frames(images: Tensor, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return the first and the second frames [P B, 3, H, W] of pairs of the frames [B, N, 3, H, W]."""
    first, second = (torch.cat([images[:, pair[end]] for pair in pairs]) for end in (0, 1))
    return first, second


def mixed_ways(motion: Callable[[Tensor, Tensor], SE3], image_a: Tensor, image_b: Tensor, *, mix: bool) -> SE3:
    """Return the motions b_from_a [B] of images; with ``mix``, of every second pair as the inverse of the way back.

    The pairs of a training step may all look the same way in time. Asked for that way alone they would pull together at
    what a network answers to any image, one way in this step and the other in the next, and it learns nothing for long.
    """
    if not mix:
        return motion(image_a, image_b)
    back = torch.arange(len(image_a), device=image_a.device) % 2 == 1
    pixels = back[:, None, None, None]
    way = motion(torch.where(pixels, image_b, image_a), torch.where(pixels, image_a, image_b))
    return SE3.where(back, way.inverse(), way)


def unstacked(levels: Sequence[Tensor], keys: Sequence[Key]) -> dict[Key, list[Tensor]]:
    """Return by frame or pair the levels [B, …] of what was predicted of all of them as one batch."""
    parts = [level.chunk(len(keys)) for level in levels]
    return {key: [part[i] for part in parts] for i, key in enumerate(keys)}


def levels_of(clip: Clip, prediction: Prediction, pairs: Sequence[Pair], *, shrink: int = 1) -> list[Level]:
    """Return the pairs at 1 / ``shrink`` (1, 2 or 4) of the images' size, at half of that, and so on.

    There are as many levels as the prediction has from there down of inverse depth, or of flow (quarter size and
    coarser, as ``PwcNet`` gives it), whichever are more; what is not predicted at all, or at a level, is None.
    """
    finer = shrink.bit_length() - 1
    height, width = (-(-side // shrink) for side in clip.images.shape[-2:])
    flows = [levels_enlarged(prediction.flow[pair], 4 // shrink) for pair in pairs] if prediction.flow else []
    depths = next(iter(prediction.inv_depth.values()))[finer:] if prediction.motion else []
    count = max(len(flows[0]) if flows else 0, len(depths))
    small = resize_image(clip.images.flatten(0, 1), height=height, width=width)
    frames = [image.unflatten(0, clip.images.shape[:2]) for image in image_pyramid(small, levels=count)]
    return [Level(image_a=torch.cat([frames[level][:, a] for a, _ in pairs]),
                  image_b=torch.cat([frames[level][:, b] for _, b in pairs]),
                  rigid=_rigid(clip, prediction, pairs, finer + level) if level < len(depths) else None,
                  flow_ab=torch.cat([f[level] for f in flows]) if flows and level < len(flows[0]) else None)
            for level in range(count)]


def _rigid(clip: Clip, prediction: Prediction, pairs: Sequence[Pair], level: int) -> Rigid:
    """Return depth and camera motion of the stacked pairs at one level."""
    depth_a = torch.cat([1 / prediction.inv_depth[a][level] for a, _ in pairs])
    height, width = depth_a.shape[-2:]
    camera = clip.camera.resized(height=height, width=width).repeated(len(pairs))
    xy_b, depth_a_in_b, in_front = reproject(depth_a, camera, SE3.cat([prediction.motion[pair] for pair in pairs]))
    flow_ab = flow_from_pixels(xy_b)
    return Rigid(depth_a=depth_a, depth_b=reversed_pairs(depth_a), xy_b=xy_b, depth_a_in_b=depth_a_in_b,
                 in_front=in_front, flow_ab=flow_ab, flow_ba=reversed_pairs(flow_ab))
