"""How far two frames' depths disagree about one scene."""

from torch import Tensor

from egoflow.geometry.pixels import sample


def depth_difference_map(depth_a_in_b: Tensor, depth_b: Tensor, xy_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return |z' - D_b(p_b)| / (z' + D_b(p_b)) in [0, 1), [B, 1, H, W], and bool where it is defined. (Bian 2019)

    Takes the z-depth in b [B, 1, H, W] of the points of a, the depth map of b and the pixels [B, H, W, 2] where the
    points land in it, as ``geometry.flow.reproject`` gives them. A depth 1.1 times too large gives .0476.
    """
    depth_there, inside = sample(depth_b, xy_b)
    use = inside & (depth_a_in_b > 1e-6) & (depth_there > 1e-6)
    # Zeros under False, so that neither value nor gradient can be NaN there.
    z, there = (v.where(use, v.new_ones(())) for v in (depth_a_in_b, depth_there))
    return (z - there).abs() / (z + there), use
