"""PLY files: coloured points and meshes, binary little-endian, as every viewer of points reads them."""

from pathlib import Path

import numpy as np

from egoflow.data.files import write_bytes
from egoflow.errors import DataError

_POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


def write_ply(path: str | Path, points: np.ndarray, colours: np.ndarray, *, faces: np.ndarray | None = None,
              remark: str = "") -> None:
    """Write points [N, 3] with RGB uint8 colours [N, 3] and, of a mesh, triangles [M, 3] of their indices.

    ``remark`` is a line for the reader: axes and unit. Raises DataError for values that are not finite.
    """
    if not np.isfinite(points).all():
        raise DataError(f"{path}: a point that is not finite cannot be written")
    table = np.zeros(len(points), _POINT)
    table["xyz"], table["rgb"] = points, colours
    head = ["ply", "format binary_little_endian 1.0", *([f"comment {remark}"] if remark else []),
            f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz"),
            *(f"property uchar {name}" for name in ("red", "green", "blue"))]
    body = table.tobytes()
    if faces is not None:
        triangles = np.zeros(len(faces), _FACE)
        triangles["count"], triangles["corners"] = 3, faces
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        body += triangles.tobytes()
    write_bytes(path, ("\n".join([*head, "end_header"]) + "\n").encode() + body)


def read_ply(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return points [N, 3] float32, colours [N, 3] uint8 and triangles [M, 3] or None, of a file of ``write_ply``."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    head, found, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").splitlines()
    if not found or not lines or lines[0] != "ply" or "format binary_little_endian 1.0" not in lines:
        raise DataError(f"{path}: expected a binary little-endian PLY file as egoflow writes it")
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element ")}
    points, faces = counts.get("vertex", 0), counts.get("face")
    size = points * _POINT.itemsize
    if len(body) != size + (faces or 0) * _FACE.itemsize:
        raise DataError(f"{path}: the file is cut short, or holds other properties than x y z red green blue")
    table = np.frombuffer(body[:size], _POINT)
    triangles = None if faces is None else np.frombuffer(body[size:], _FACE)["corners"].copy()
    return table["xyz"].copy(), table["rgb"].copy(), triangles
