"""Read and write pairs for images, masks, depth and flow.

Convention: maps are numpy arrays [H, W] or [H, W, C]; readers of depth and flow return ``(value, valid)``, and under a
False ``valid`` the value is 0. Readers check what a header claims against the length of the file before they allocate,
run no code from a file, and raise DataError naming it. Writers write whole files or none.
"""

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from egoflow.data.files import MAX_PIXELS, atomic, opened, read_bytes, write_bytes
from egoflow.errors import DataError

FLO_UNKNOWN = 1e10
_FLO_MAGIC = struct.pack("<f", 202021.25)
# No image codec that is read here packs more pixels into a byte than a fully constant PNG does.
_MAX_PIXELS_PER_BYTE = 10_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _check_size(path: str | Path, *, height: int, width: int, length: int, pixels_per_byte: float) -> None:
    """Raise DataError if ``height`` x ``width`` is absurd or impossible in a file of ``length`` bytes."""
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise DataError(f"{path}: the header claims {height}x{width} pixels; the file is damaged or of another format")
    if height * width > length * pixels_per_byte:
        raise DataError(f"{path}: truncated: {length} bytes cannot hold the {height}x{width} pixels of its header")


def _check_map(path: str | Path, value: np.ndarray, *, channels: int | None = None) -> None:
    """Raise DataError unless ``value`` is [H, W] (or [H, W, channels])."""
    expected = "[H, W]" if channels is None else f"[H, W, {channels}]"
    if value.ndim != (2 if channels is None else 3) or 0 in value.shape or (channels and value.shape[-1] != channels):
        raise DataError(f"{path}: expected an array {expected} to write, got {value.shape}")


def _open_image(path: str | Path) -> Image.Image:
    """Decode an image file completely; DataError if it is none, is truncated or claims an absurd size."""
    data = read_bytes(path)
    try:
        image = Image.open(io.BytesIO(data))
        _check_size(path, height=image.height, width=image.width, length=len(data),
                    pixels_per_byte=_MAX_PIXELS_PER_BYTE)
        image.load()
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a readable image: of no format that is known here") from error
    except Exception as error:  # noqa: BLE001 - decoders raise every type on damaged input (SyntaxError, struct.error)
        raise DataError(f"{path}: not a readable image: {str(error).splitlines()[0][:100] if str(error) else error!r}"
                        ) from error
    return image


def read_image(path: str | Path) -> np.ndarray:
    """Return an image as RGB uint8 [H, W, 3], turned upright by its EXIF tag; 16-bit grey is scaled to 8 bits."""
    image = ImageOps.exif_transpose(_open_image(path))
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return np.repeat((grey // 257).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write RGB uint8 [H, W, 3] in the format that the suffix names (.png, .jpg, …)."""
    _check_map(path, image, channels=3)
    if image.dtype != np.uint8:
        raise DataError(f"{path}: expected uint8 to write, got {image.dtype}; multiply [0, 1] images by 255")
    with atomic(path) as temporary:
        try:
            Image.fromarray(image).save(temporary, quality=95, subsampling=0)
        except ValueError as error:
            raise DataError(f"{path}: unknown image suffix; use .png or .jpg") from error


def read_mask(path: str | Path) -> np.ndarray:
    """Return a mask image as bool [H, W]: True where the pixel is not black."""
    image = np.asarray(_open_image(path).convert("RGB"))
    return np.asarray(image.any(axis=2))


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write bool [H, W] as a grey PNG: True is 255."""
    _check_map(path, mask)
    _write_png(path, mask.astype(bool).astype(np.uint8) * 255)


def _check_png(path: str | Path, data: bytes) -> None:
    """Walk the chunks of a PNG: every length and checksum right, an end chunk there, a size the data can hold.

    OpenCV reads 16-bit colour, which Pillow does not, but returns damaged files without a word.
    """
    offset, name = len(_PNG_SIGNATURE), b""
    if not data.startswith(_PNG_SIGNATURE):
        raise DataError(f"{path}: expected a PNG file")
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, offset) if offset + 12 <= len(data) else (len(data), b"")
        end = offset + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[offset + 4:end]) != int.from_bytes(data[end:end + 4], "big"):
            raise DataError(f"{path}: truncated or damaged PNG at byte {offset}")
        if offset == len(_PNG_SIGNATURE):
            if name != b"IHDR" or length != 13:
                raise DataError(f"{path}: damaged PNG: it does not start with its size")
            width, height = struct.unpack_from(">II", data, offset + 8)
            _check_size(path, height=height, width=width, length=len(data), pixels_per_byte=_MAX_PIXELS_PER_BYTE)
        offset = end + 4


def _read_png16(path: str | Path, *, channels: int) -> np.ndarray:
    """Return a 16-bit PNG [H, W] or, with three channels, [H, W, 3] in RGB order."""
    data = read_bytes(path)
    _check_png(path, data)
    try:
        value = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        value = None
    if value is None:
        raise DataError(f"{path}: damaged PNG")
    found = 1 if value.ndim == 2 else value.shape[2]
    if value.dtype != np.uint16 or found != channels:
        raise DataError(f"{path}: expected a 16-bit PNG with {channels} channel(s), found {value.dtype} with {found}")
    return value if channels == 1 else value[..., ::-1]


def _write_png(path: str | Path, value: np.ndarray) -> None:
    """Write a grey or BGR array as PNG."""
    good, data = cv2.imencode(".png", value)
    if not good:
        raise DataError(f"{path}: an array {value.shape} {value.dtype} cannot be written as PNG")
    write_bytes(path, data.tobytes())


def read_depth_png(path: str | Path, units_per_metre: float = 256.0) -> tuple[np.ndarray, np.ndarray]:
    """Return depth [H, W] float32 in metres and ``valid`` bool of a 16-bit PNG; 0 is unknown (the KITTI layout)."""
    value = _read_png16(path, channels=1)
    return (value / units_per_metre).astype(np.float32), value > 0


def write_depth_png(path: str | Path, depth: np.ndarray, valid: np.ndarray | None = None, *,
                    units_per_metre: float = 256.0) -> None:
    """Write depth [H, W] in metres as a 16-bit PNG.

    What 16 bits cannot hold (not valid, not finite, not positive, beyond 65535 / units_per_metre) becomes 0, unknown;
    positive depths that would round to 0 become 1 unit.
    """
    _check_map(path, depth)
    with np.errstate(invalid="ignore", over="ignore"):
        units = np.rint(depth.astype(np.float64) * units_per_metre)
        good = np.isfinite(depth) & (depth > 0) & (units <= 65535)
    good &= True if valid is None else valid
    _write_png(path, np.where(good, np.maximum(units, 1), 0).astype(np.uint16))


def read_flow_png(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return flow [H, W, 2] float32 in pixels and ``valid`` bool of KITTI's 16-bit PNG: (value - 2^15) / 64."""
    value = _read_png16(path, channels=3)
    valid = np.asarray(value[..., 2] > 0)
    flow = (value[..., :2].astype(np.float32) - 2**15) / 64
    return np.where(valid[..., None], flow, np.float32(0)), valid


def write_flow_png(path: str | Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Write flow [H, W, 2] in pixels as KITTI's 16-bit PNG; what is not finite or beyond ±512 becomes unknown."""
    _check_map(path, flow, channels=2)
    with np.errstate(invalid="ignore", over="ignore"):
        units = np.rint(flow.astype(np.float64) * 64 + 2**15)
        good = np.asarray(((units >= 0) & (units <= 65535)).all(axis=2))
    good &= True if valid is None else valid
    value = np.concatenate((np.where(good[..., None], units, 0), good[..., None]), axis=2)
    _write_png(path, value[..., ::-1].astype(np.uint16))


def read_flo(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return flow [H, W, 2] float32 in pixels and ``valid`` bool of a Middlebury .flo; beyond 1e9 is unknown."""
    with opened(path) as (stream, length):
        header = stream.read(12)
        if len(header) < 12 or header[:4] != _FLO_MAGIC:
            raise DataError(f"{path}: expected a .flo file, which starts with the number 202021.25")
        width, height = struct.unpack("<ii", header[4:])
        _check_size(path, height=height, width=width, length=length - 12, pixels_per_byte=1 / 8)
        flow = np.frombuffer(stream.read(8 * height * width), "<f4").reshape(height, width, 2)
    return _known(flow)


def _known(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return flow [H, W, 2] float32 and bool [H, W]: it is known; NaN and what is beyond 1e9 are not."""
    valid = np.asarray((np.abs(flow) < 1e9).all(axis=2))
    return np.where(valid[..., None], flow, np.float32(0)).astype(np.float32), valid


def write_flo(path: str | Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Write flow [H, W, 2] in pixels as a Middlebury .flo; invalid pixels become unknown."""
    _check_map(path, flow, channels=2)
    good = np.asarray(np.isfinite(flow).all(axis=2) & (True if valid is None else valid))
    value = np.where(good[..., None], flow, FLO_UNKNOWN).astype("<f4")
    write_bytes(path, _FLO_MAGIC + struct.pack("<ii", flow.shape[1], flow.shape[0]) + value.tobytes())


def read_pfm(path: str | Path) -> np.ndarray:
    """Return a portable float map as float32 [H, W] or [H, W, 3], first row on top."""
    with opened(path) as (stream, length):
        header = re.match(rb"(PF|Pf)\s+([0-9]{1,9})\s+([0-9]{1,9})\s+([-+.0-9eE]{1,40})[ \t\r]*\n", stream.read(256))
        if header is None:
            raise DataError(f"{path}: expected a PFM header: PF or Pf, width height, scale")
        channels = 3 if header[1] == b"PF" else 1
        width, height = int(header[2]), int(header[3])
        _check_size(path, height=height, width=width, length=length - header.end(), pixels_per_byte=0.25 / channels)
        try:
            order = "<f4" if float(header[4]) < 0 else ">f4"
        except ValueError as error:
            raise DataError(f"{path}: the scale of the PFM header is no number") from error
        stream.seek(header.end())
        value = np.frombuffer(stream.read(4 * channels * height * width), order)
    return value.reshape(height, width, channels)[::-1].astype(np.float32).squeeze(2 if channels == 1 else ())


def write_pfm(path: str | Path, value: np.ndarray) -> None:
    """Write float32 [H, W] or [H, W, 3] as a little-endian portable float map."""
    _check_map(path, value, channels=3 if value.ndim == 3 else None)
    header = f"{'PF' if value.ndim == 3 else 'Pf'}\n{value.shape[1]} {value.shape[0]}\n-1.0\n".encode()
    write_bytes(path, header + value[::-1].astype("<f4").tobytes())


def read_flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return flow [H, W, 2] float32 in pixels and ``valid`` bool of a .flo, a KITTI .png or a .pfm of x, y, unused."""
    suffix = Path(path).suffix.lower()
    if suffix in (".flo", ".png"):
        return read_flo(path) if suffix == ".flo" else read_flow_png(path)
    value = read_pfm(path) if suffix == ".pfm" else None
    if value is None or value.ndim != 3:
        raise DataError(f"{path}: expected a flow file: .flo, KITTI's 16-bit .png or a .pfm of 3 channels")
    return _known(value[..., :2])


def _read_npy(path: str | Path, name: str, data: bytes) -> np.ndarray:
    """Return the array of one .npy member; its header must agree with its length and hold plain numbers."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream, max_header_size=10_000)
    except Exception as error:  # noqa: BLE001 - numpy parses the header as Python literals and raises many types
        raise DataError(f"{path}: {name} is no numpy array: {str(error)[:80]}") from error
    if dtype.hasobject or dtype.kind not in "bfiu":
        raise DataError(f"{path}: {name} holds {dtype}; expected plain numbers")
    count, rest = 1, len(data) - stream.tell()
    for size in shape:
        count *= size
    if min(shape, default=1) < 0 or count * dtype.itemsize != rest:
        raise DataError(f"{path}: {name} is truncated: {rest} bytes cannot hold {shape} {dtype}")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of plain numbers in an .npz file by name; nothing is unpickled."""
    arrays: dict[str, np.ndarray] = {}
    with opened(path) as (stream, _):
        try:
            with zipfile.ZipFile(stream) as archive:
                for info in archive.infolist():
                    if info.file_size > 8 * MAX_PIXELS:
                        raise DataError(f"{path}: {info.filename} claims {info.file_size} bytes; the file is damaged")
                    data = archive.read(info)
                    arrays[info.filename.removesuffix(".npy")] = _read_npy(path, info.filename, data)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
            raise DataError(f"{path}: not a readable .npz file: {str(error)[:80]}") from error
    return arrays


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed .npz file."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_depth_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return depth [H, W] float32 and ``valid`` bool of an .npz with ``depth`` and, if present, ``valid``."""
    arrays = read_npz(path)
    depth = arrays.get("depth")
    if depth is None or depth.ndim != 2:
        raise DataError(f"{path}: expected an array 'depth' [H, W], found {sorted(arrays)}")
    valid = arrays.get("valid", np.ones(depth.shape, bool))
    if valid.shape != depth.shape:
        raise DataError(f"{path}: 'valid' is {valid.shape} but 'depth' is {depth.shape}")
    depth = depth.astype(np.float32)
    good = valid.astype(bool) & np.isfinite(depth) & (depth > 0)
    return np.where(good, depth, np.float32(0)), good


def write_depth_npz(path: str | Path, depth: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Write depth [H, W] as float32, and what of it is valid, to an .npz."""
    _check_map(path, depth)
    write_npz(path, depth=depth.astype(np.float32), valid=np.ones(depth.shape, bool) if valid is None else valid)
