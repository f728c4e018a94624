"""COLMAP's text model: what splatting, NeRF and multi-view stereo programs start from.

COLMAP's first pixel has its centre at (.5, .5), and its images hold cam_from_world as a quaternion qw qx qy qz.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from egoflow.data.files import write_bytes
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, quaternion_xyzw_from_rotation


def write_colmap(folder: str | Path, camera: Camera, world_from_cam: SE3, names: Sequence[str], *,
                 points: np.ndarray | None = None, colours: np.ndarray | None = None, remark: str = "") -> None:
    """Write cameras.txt, images.txt and points3D.txt of one camera, its path [N] and the image names [N].

    ``points`` [M, 3] with RGB uint8 ``colours`` [M, 3] start a reconstruction; they belong to no image. ``remark`` is
    a comment ahead of both.
    """
    folder = Path(folder)
    numbers = (float(camera.fx), float(camera.fy), float(camera.cx) + 0.5, float(camera.cy) + 0.5)
    write_bytes(folder / "cameras.txt", (f"# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy\n1 PINHOLE {camera.width} "
                                         f"{camera.height} {' '.join(f'{v:.9g}' for v in numbers)}\n").encode())
    inverse = world_from_cam.inverse()
    rows = np.concatenate((np.roll(quaternion_xyzw_from_rotation(inverse.R).numpy(), 1, axis=1), inverse.t.numpy()), 1)
    # The format has no way to write a space within a name.
    names = [name.replace(" ", "_") for name in names]
    comment = [f"# {remark}"] if remark else []
    lines = [*comment, "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then a line of 2-D points, here empty"]
    for number, (row, name) in enumerate(zip(rows, names, strict=True), start=1):
        lines += [f"{number} {' '.join(f'{v:.12g}' for v in row)} 1 {name}", ""]
    write_bytes(folder / "images.txt", ("\n".join(lines) + "\n").encode())
    listed = [*comment, "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]"]
    if points is not None and colours is not None:
        listed += [f"{number} {x:.6g} {y:.6g} {z:.6g} {r} {g} {b} 0" for number, ((x, y, z), (r, g, b)) in enumerate(
            zip(points.tolist(), colours.tolist(), strict=True), start=1)]
    write_bytes(folder / "points3D.txt", ("\n".join(listed) + "\n").encode())
