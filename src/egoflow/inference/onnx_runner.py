"""Run an exported egoflow model on a folder of images with numpy and onnxruntime alone.

    python run_onnx.py FRAMES --out DIR

FRAMES holds .png (8 bit), .ppm or .npy (uint8 [H, W, 3]) images; of a video: ffmpeg -i clip.mp4 frames/%06d.ppm.
DIR gets depth/NAME.png (16 bit, depth.json says the unit), flow/NAME.flo and trajectory_kitti.txt (the motions that the
network says, chained), as far as the model gives them. manifest.json beside this file says what that is, and how many
frames apart ("gap") the frames of a pair are: flow and motion lead so far on, the path has a row for every such frame,
and the last frames, which lead nowhere, have no flow, nor depth where a model gives all.
"""

import argparse
import json
import re
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np

ENDINGS = (".png", ".ppm", ".npy")


def main():
    """Run the model on every frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent, help="folder of the export")
    parser.add_argument("--fov", type=float, help="horizontal field of view of these images in degrees, to be compared "
                        "with that of training")
    args = parser.parse_args()
    if not (args.model / "manifest.json").is_file():
        sys.exit(f"{args.model}: expected the folder of an export, with a manifest.json; give it as --model")
    manifest = json.loads((args.model / "manifest.json").read_text("utf-8"))
    if not args.frames.is_dir():
        sys.exit(f"{args.frames}: expected a folder of images; of a video: ffmpeg -i clip.mp4 frames/%06d.ppm")
    files = sorted((f for f in args.frames.iterdir() if f.suffix.lower() in ENDINGS), key=lambda f: natural(f.name))
    if not files:
        sys.exit(f"{args.frames}: expected images ({', '.join(ENDINGS)})")
    if args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        sys.exit(f"{args.out}: exists already; give another folder")
    warn_of_camera(manifest, args.fov)
    seconds = run(manifest, args.model / manifest["file"], files, args.out)
    sys.stdout.write(f"{len(files)} frames, {len(files) / max(seconds, 1e-9):.1f} a second in the model; wrote "
                     f"{args.out}\n")


def warn_of_camera(manifest, fov):
    """Say so where the camera is not of the kind that was trained on."""
    (low, high), trained = manifest["camera"]["fov_deg"], manifest["camera"]["trained_fov_deg"]
    if None not in (fov, trained) and not low <= fov <= high:
        ends = " to ".join(sorted({f"{value:.0f}" for value in trained}, key=int))
        sys.stderr.write(f"warning: trained with a field of view of {ends} degrees, not {fov:.0f}: depth and motion "
                         f"will be wrong in scale and shape\n")


def run(manifest, model, files, out):
    """Write what the model says of the frames; return the seconds that the model took."""
    try:
        import onnxruntime
    except ImportError:
        sys.exit("onnxruntime is not installed: pip install onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names, size = [output.name for output in session.get_outputs()], manifest["size"]
    pairs, spent = len(session.get_inputs()) == 2, 0.0
    gap, path = manifest["gap"], np.eye(4)
    rows, past = [path], []
    for number, file in enumerate(files):
        image = read_image(file)
        small = resized_image(image, *size).transpose(2, 0, 1)[None].astype(np.float32)
        # Of a pair it is the first frame's depth and flow.
        name, first, shape = (past[-gap] if len(past) >= gap else ("", small, ())) if pairs else (
            file.stem, small, image.shape)
        images = (first, small) if pairs else (first,)
        if name:
            begun = time.perf_counter()
            given = {i.name: v for i, v in zip(session.get_inputs(), images, strict=True)}
            values = [np.asarray(value) for value in session.run(names, given)]
            spent += time.perf_counter() - begun
            for key, value in zip(names, values, strict=True):
                if key.startswith("depth"):
                    write_depth(out / "depth", name, 1 / value[0, 0], shape, manifest)
                elif key == "flow_ab":
                    write_flow(out / "flow" / f"{name}.flo", value[0], shape)
                elif number % gap == 0:
                    step = np.eye(4)
                    step[:3] = value[0]
                    path = path @ np.linalg.inv(step)
                    rows.append(path)
        past = [*past, (file.stem, small, image.shape)][-gap:]
    if "b_from_a" in names:
        text = "".join(" ".join(f"{v:.12g}" for v in row[:3].ravel()) + "\n" for row in rows)
        out.mkdir(parents=True, exist_ok=True)
        (out / "trajectory_kitti.txt").write_text(text)
    return spent


def natural(name):
    """Return a sort key that counts as people do: frame2 before frame10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def write_depth(folder, name, inverse, shape, manifest):
    """Write depth as a 16-bit PNG at the frame's own size: inverse depth is what is enlarged."""
    folder.mkdir(parents=True, exist_ok=True)
    units, largest = manifest["depth_png"]["png_units_per_depth_unit"], manifest["depth_png"]["largest"]
    with np.errstate(divide="ignore"):
        depth = 1 / resized_map(inverse, *shape[:2])
    value = np.maximum(np.rint(np.minimum(depth, largest).astype(np.float64) * units), 1)
    write_png16(folder / f"{name}.png", value.astype(np.uint16))
    (folder / "depth.json").write_text(json.dumps(manifest["depth_png"]) + "\n")


def write_flow(path, flow, shape):
    """Write a flow [2, h, w] as a Middlebury file in pixels of the frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = shape[:2]
    scale = (width / flow.shape[2], height / flow.shape[1])
    value = np.stack([resized_map(part, height, width) * s for part, s in zip(flow, scale, strict=True)], axis=2)
    path.write_bytes(b"PIEH" + struct.pack("<ii", width, height) + value.astype("<f4").tobytes())


def resized_image(image, height, width):
    """Return an image uint8 [H, W, 3] as float64 in [0, 1] at another size, averaged where it gets smaller."""
    down, across = averaging(image.shape[0], height), averaging(image.shape[1], width)
    return np.einsum("hi,ijc,wj->hwc", down, image / 255.0, across, optimize=True)


def averaging(before, after):
    """Return the weights [after, before] of a triangle as wide as a new pixel, pixel centres half-way."""
    scale = before / after
    support = max(scale, 1.0)
    centre = (np.arange(after)[:, None] + 0.5) * scale
    weight = np.maximum(0, 1 - np.abs(np.arange(before)[None] + 0.5 - centre) / support)
    return weight / weight.sum(1, keepdims=True)


def resized_map(value, height, width):
    """Return a map [h, w] at another size, linear between pixel centres."""
    down, across = linear(value.shape[0], height), linear(value.shape[1], width)
    return (down @ value.astype(np.float64) @ across.T).astype(np.float32)


def linear(before, after):
    """Return the weights [after, before] between the two nearest pixel centres; the border repeats."""
    place = ((np.arange(after) + 0.5) * before / after - 0.5).clip(0, before - 1)
    low = np.minimum(place.astype(int), max(before - 2, 0))
    weight = np.zeros((after, before))
    weight[np.arange(after), low] = 1 - (place - low)
    weight[np.arange(after), np.minimum(low + 1, before - 1)] += place - low
    return weight


def read_image(file):
    """Return an image as uint8 [H, W, 3]."""
    try:
        image = parsed_image(file)
    except (ValueError, EOFError, struct.error, zlib.error):
        image = None
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        sys.exit(f"{file}: is damaged, or no image of 8 bits in three colours")
    return image


def parsed_image(file):
    """Return what an image file holds."""
    if file.suffix.lower() == ".npy":
        return np.load(file, allow_pickle=False)
    data = file.read_bytes()
    if file.suffix.lower() == ".ppm":
        found = re.match(rb"P6\s+(?:#.*\n)*(\d+)\s+(\d+)\s+255\s", data)
        if not found:
            sys.exit(f"{file}: expected a binary PPM (P6) of 8 bits")
        width, height = int(found[1]), int(found[2])
        return np.frombuffer(data, np.uint8, width * height * 3, found.end()).reshape(height, width, 3)
    return read_png(file, data)


def read_png(file, data):
    """Return an 8-bit PNG, grey or in colours, as uint8 [H, W, 3]; alpha is left out."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        sys.exit(f"{file}: is no PNG")
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(kind)
    if depth != 8 or channels is None or interlaced:
        sys.exit(f"{file}: expected 8 bits a channel, no palette and no interlacing")
    packed, at = b"", 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + length] if name == b"IDAT" else b""
        at += length + 12
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    image, above = np.zeros((height, width * channels), np.uint8), np.zeros(width * channels, np.uint8)
    for y, line in enumerate(lines):
        above = image[y] = unfiltered(line[0], line[1:], above, channels)
    image = image.reshape(height, width, channels)
    return np.repeat(image[..., :1], 3, axis=2) if channels < 3 else image[..., :3]


def unfiltered(kind, line, above, channels):
    """Return a row of a PNG from its filtered bytes and the row above."""
    if kind == 0:
        return line
    if kind == 2:
        return line + above
    if kind == 1:
        return np.cumsum(line.reshape(-1, channels), axis=0, dtype=np.uint64).astype(np.uint8).ravel()
    row, up, left = line.tolist(), above.tolist(), channels
    for x in range(len(row)):
        a, b, c = (row[x - left], up[x], up[x - left]) if x >= left else (0, up[x], 0)
        if kind == 3:
            guess = (a + b) // 2
        else:
            near = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            guess = a if near[0] <= near[1] and near[0] <= near[2] else b if near[1] <= near[2] else c
        row[x] = (row[x] + guess) & 255
    return np.array(row, np.uint8)


def write_png16(path, value):
    """Write uint16 [H, W] as a grey PNG."""
    height, width = value.shape
    lines = np.concatenate((np.zeros((height, 1), np.uint8), value.astype(">u2").view(np.uint8)), axis=1)

    def part(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
                     + part(b"IDAT", zlib.compress(lines.tobytes(), 6)) + part(b"IEND", b""))


if __name__ == "__main__":
    main()
