"""Colours for flow: Middlebury's wheel, its legend, and error maps on KITTI's logarithmic scale."""

import numpy as np

# Steps from red over yellow, green, cyan, blue and magenta back to red: most where eyes tell hues apart best.
_STEPS = (("red", "yellow", 15), ("yellow", "green", 6), ("green", "cyan", 4), ("cyan", "blue", 11),
          ("blue", "magenta", 13), ("magenta", "red", 6))
_RGB = {"red": (1, 0, 0), "yellow": (1, 1, 0), "green": (0, 1, 0), "cyan": (0, 1, 1), "blue": (0, 0, 1),
        "magenta": (1, 0, 1)}
ERROR_EDGES_PX = (0.1875, 0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0)
"""Where the colours of an error map change, for true motions of at most 60 px; see ``error_colours``."""
_TOLERANCE_PX, _TOLERANCE_SHARE = 3.0, 0.05
# ColorBrewer's diverging "RdYlBu" of ten classes, from small errors (blue) to large (red).
_ERRORS = np.array([(49, 54, 149), (69, 117, 180), (116, 173, 209), (171, 217, 233), (224, 243, 248),
                    (254, 224, 144), (253, 174, 97), (244, 109, 67), (215, 48, 39), (165, 0, 38)], np.uint8)


def colour_wheel() -> np.ndarray:
    """Return the 55 colours of the wheel as RGB [55, 3] in 0..255, from red. (Baker 2007)"""
    return np.concatenate([_ramp(np.array(_RGB[start]), np.array(_RGB[end]), steps) for start, end, steps in _STEPS])


def _ramp(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return ``steps`` colours [steps, 3] from one corner of the RGB cube towards another, the first included."""
    moving = np.floor(255 * np.arange(steps) / steps)[:, None]
    return np.where(start == end, 255.0 * start, np.where(end > start, moving, 255 - moving))


def flow_colours(flow: np.ndarray, valid: np.ndarray | None = None, *, largest: float | None = None) -> np.ndarray:
    """Return flow [2, H, W] as RGB uint8 [H, W, 3]: the hue is the direction, white stands still, unknown is black.

    Lengths of ``largest`` (default: the longest flow) have full colour, longer ones are darker. Motion to the right is
    red, down yellow, left cyan-blue, up violet. (Baker 2007)
    """
    known = np.asarray(np.isfinite(flow).all(axis=0))
    known = known if valid is None else known & valid
    x, y = np.where(known, flow, 0.0).astype(np.float64)
    length = np.hypot(x, y)
    length = length / (largest or float(length.max(initial=0.0)) or 1.0)
    wheel = colour_wheel() / 255
    # The published mapping: half a turn left and right of the first colour spans the first to the last, so that the
    # step from the last to the first one is no blend. Kept: pictures then match everybody's.
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    hue = (1 - part) * wheel[low] + part * wheel[(low + 1) % len(wheel)]
    length = length[..., None]
    colour = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return np.where(known[..., None], np.floor(255 * colour), 0).astype(np.uint8)


def flow_legend(size: int = 151) -> np.ndarray:
    """Return the wheel as RGB uint8 [size, size, 3]: each place of the disc has the colour of a flow that far out."""
    centre = (size - 1) / 2
    y, x = np.mgrid[:size, :size] - centre
    inside = np.hypot(x, y) <= size / 2
    picture = flow_colours(np.stack((x, y)), largest=size / 2)
    return np.where(inside[..., None], picture, 255).astype(np.uint8)


def error_colours(flow: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the end-point error of flow [2, H, W] as RGB uint8 [H, W, 3]; black where ``valid`` [H, W] is False.

    Blue is within KITTI's tolerance of 3 px or 5 % of the true length, whichever allows more; yellow to red is an
    outlier (Fl). Each colour spans a factor of 2. (Menze 2015)
    """
    with np.errstate(invalid="ignore"):
        error, length = np.hypot(*(flow - truth)), np.hypot(*truth)
        level = error / np.maximum(_TOLERANCE_PX, _TOLERANCE_SHARE * length) * _TOLERANCE_PX
    # An error at an edge is the smaller class: the outlier rule is strict.
    place = np.searchsorted(ERROR_EDGES_PX, np.where(valid, level, 0.0), side="left")
    return np.where(valid[..., None], _ERRORS[place], 0).astype(np.uint8)


def error_legend(width: int, height: int) -> np.ndarray:
    """Return the colours of an error map as a bar, RGB uint8 [height, width, 3]; they change at ERROR_EDGES_PX."""
    place = np.arange(width) * len(_ERRORS) // width
    return np.broadcast_to(_ERRORS[place], (height, width, 3)).copy()
