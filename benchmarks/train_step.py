"""Time of one training step at paper size: egoflow's against a plain composition of the same networks and losses.

    python benchmarks/train_step.py [--steps N] [--batch 4] [--device cuda]

Both sides start from the same weights and take the same steps on the same clips in one process, in turns, so that the
ratio holds on a noisy machine. The plain side is what one writes first: contiguous (NCHW) tensors, unfused Adam without
foreach, one warp per source and level, every source's target handled afresh. Prints the ratio, the largest difference
of the losses, and the share of the step that is convolution; writes results/train_step.json (of a GPU,
results/train_step_gpu.json: the library's step under bfloat16 as the trainer takes it there, the plain one in float32).
"""

import argparse
import datetime
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from egoflow.console import say
from egoflow.geometry.camera import Camera
from egoflow.networks.narrow import NarrowConv2d
from egoflow.registry import load_preset
from egoflow.training.layout import lay_out
from egoflow.training.optim import clip_gradients, make_optimizer
from egoflow.types import Clip, LossTerms

CLIP_NORM = 10.0
WARM_UP = 4


def make_clip(batch: int, device: torch.device, *, height: int = 128, width: int = 416) -> Clip:
    """Return a batch of three-frame clips of a smooth texture that slides."""
    texture = F.interpolate(torch.rand(batch, 3, height // 8, (width + 16) // 8), (height, width + 16), mode="bicubic")
    images = torch.stack([texture[..., s:s + width] for s in (0, 6, 12)], 1).clamp(0, 1)
    camera = Camera.create(241.0, 246.0, 204.0, 59.0, height=height, width=width)
    return Clip(images=images, camera=camera.repeated(batch), time_s=torch.zeros(batch, 3), target=1).to(device)


def plain_losses(method: torch.nn.Module, clip: Clip) -> Tensor:
    """Return SfMLearner's total loss, written source by source and level by level."""
    config = method.config
    target, sources = clip.images[:, 1].contiguous(), [clip.images[:, 0].contiguous(), clip.images[:, 2].contiguous()]
    inv_depths = method.depth_net(target)
    vectors, logits = method.motion_net(target, torch.stack(sources, 1))
    total = target.new_zeros(())
    for level, inv_depth in enumerate(inv_depths):
        factor = 2**level
        small = F.avg_pool2d(target, factor) if level else target
        height, width = small.shape[-2:]
        depth = 1 / inv_depth
        for index, source in enumerate(sources):
            warped, valid = plain_warp(F.avg_pool2d(source, factor) if level else source, depth, clip.camera,
                                       vectors[:, index], height, width)
            weight = torch.sigmoid(logits[level][:, index:index + 1])
            error = (warped - small).abs().mean(1, keepdim=True) * weight
            count = valid.flatten(1).sum(1)
            total = total + (torch.where(valid, error, torch.zeros_like(error)).flatten(1).sum(1)
                             / count.clamp_min(1)).mean()
            total = total + config.explain_weight * -weight.log().mean()
        dx, dy = depth[..., 1:] - depth[..., :-1], depth[..., 1:, :] - depth[..., :-1, :]
        smooth = ((dx[..., 1:] - dx[..., :-1]).abs().mean() + (dx[..., 1:, :] - dx[..., :-1, :]).abs().mean()
                  + (dy[..., 1:] - dy[..., :-1]).abs().mean() + (dy[..., 1:, :] - dy[..., :-1, :]).abs().mean())
        total = total + config.smooth_weight / factor * smooth
    return total


def plain_warp(source: Tensor, depth: Tensor, camera: Camera, vector: Tensor, height: int, width: int) -> tuple[
        Tensor, Tensor]:
    """Return a source on the target's grid and where it is valid, through 3x3 matrices (Zhou 2017, equation 2)."""
    batch = source.shape[0]
    device = source.device
    k = torch.zeros(batch, 3, 3, device=device)
    scale_x, scale_y = width / camera.width, height / camera.height
    k[:, 0, 0], k[:, 1, 1], k[:, 2, 2] = camera.fx * scale_x, camera.fy * scale_y, 1
    k[:, 0, 2], k[:, 1, 2] = (camera.cx + 0.5) * scale_x - 0.5, (camera.cy + 0.5) * scale_y - 0.5
    cos, sin = vector[:, 3:].cos(), vector[:, 3:].sin()
    one, zero = torch.ones(batch, device=device), torch.zeros(batch, device=device)
    rx = torch.stack((one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0]), 1).view(-1, 3, 3)
    ry = torch.stack((cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1]), 1).view(-1, 3, 3)
    rz = torch.stack((cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one), 1).view(-1, 3, 3)
    y, x = torch.meshgrid(torch.arange(height, dtype=torch.float32, device=device),
                          torch.arange(width, dtype=torch.float32, device=device), indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x))).view(1, 3, -1)
    points = torch.inverse(k) @ pixels * depth.view(batch, 1, -1)
    moved = rx @ ry @ rz @ points + vector[:, :3, None]
    front = moved[:, 2:] > 1e-6
    projected = k @ moved
    xy = projected[:, :2] / torch.where(front, moved[:, 2:], torch.ones_like(front, dtype=torch.float32))
    u, v = xy[:, 0].view(batch, height, width), xy[:, 1].view(batch, height, width)
    grid = torch.stack(((2 * u + 1) / width - 1, (2 * v + 1) / height - 1), -1)
    inside = (u >= -1e-3) & (u <= width - 1 + 1e-3) & (v >= -1e-3) & (v <= height - 1 + 1e-3)
    warped = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped, inside.unsqueeze(1) & front.view(batch, 1, height, width)


def ours_step(method: torch.nn.Module, clip: Clip, optimizer: torch.optim.Optimizer) -> float:
    """Take one optimiser step as the trainer takes it and return the loss."""
    with torch.autocast(clip.images.device.type, torch.bfloat16, enabled=clip.images.is_cuda):
        terms: LossTerms = method(clip, 1.0)[0]
    optimizer.zero_grad(set_to_none=True)
    terms.total.backward()
    clip_gradients(method, CLIP_NORM)
    optimizer.step()
    return float(terms.total.detach())


def plain_step(method: torch.nn.Module, clip: Clip, optimizer: torch.optim.Optimizer) -> float:
    """Take one optimiser step as one writes it first and return the loss."""
    loss = plain_losses(method, clip)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(method.parameters(), CLIP_NORM)
    optimizer.step()
    return float(loss.detach())


def plain_networks(method: torch.nn.Module) -> None:
    """Make every convolution of the plain side the library's own."""
    for module in method.modules():
        if isinstance(module, NarrowConv2d):
            module.__class__ = torch.nn.Conv2d


def convolution_share(run: object) -> float:
    """Return the share of the profiled time, the GPU's where there is one, of convolutions and their gradients."""
    cuda = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as record:
        run()  # type: ignore[operator]
    events = record.key_averages()
    times = {e.key: e.self_device_time_total if cuda else e.self_cpu_time_total for e in events}
    return sum(time_us for key, time_us in times.items() if "conv" in key) / sum(times.values())


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    entry, run = load_preset("sfmlearner:kitti")
    plain, fast = entry.method_type(run.config), entry.method_type(run.config)
    fast.load_state_dict(plain.state_dict())
    plain_networks(plain)
    plain.to(device)
    lay_out(fast, device=device, channels_last=True)
    plain_adam = torch.optim.Adam(plain.parameters(), lr=run.optim.lr, foreach=False)
    fast_adam = make_optimizer(fast, run.optim)
    times: dict[str, list[float]] = {"plain": [], "egoflow": []}
    last, drift = {"plain": 0.0, "egoflow": 0.0}, 0.0
    first = make_clip(args.batch, device)
    difference = abs(float(fast(first, 1.0)[0].total.detach()) - float(plain_losses(plain, first).detach()))
    for index in range(args.steps + WARM_UP):
        clip = make_clip(args.batch, device)
        for name, step, method, adam in (("plain", plain_step, plain, plain_adam),
                                         ("egoflow", ours_step, fast, fast_adam)):
            begun = time.perf_counter()
            last[name] = step(method, clip, adam)
            if index >= WARM_UP:
                times[name].append(time.perf_counter() - begun)
        drift = max(drift, abs(last["plain"] - last["egoflow"]))
    share = convolution_share(lambda: ours_step(fast, clip, fast_adam))
    ratios = [p / f for p, f in zip(times["plain"], times["egoflow"], strict=True)]
    result = {"plain_s": statistics.median(times["plain"]), "egoflow_s": statistics.median(times["egoflow"]),
              "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
              "loss_difference": difference, "loss_difference_over_steps": drift, "convolution_share": share,
              "batch": args.batch, "size": "128x416",
              "torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": cpu_name(),
              "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
              "date": datetime.date.today().isoformat()}
    for key, value in result.items():
        say(f"{key:18s} {value:.4g}" if isinstance(value, float) else f"{key:18s} {value}")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    name = "train_step_gpu.json" if device.type == "cuda" else "train_step.json"
    (folder / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
