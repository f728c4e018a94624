"""Write the flow of pairs: flow files, occlusion, confidence, a colour video, and the truth where it is known."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch
from torch import Tensor

from egoflow.config import Run
from egoflow.console import note
from egoflow.data.files import write_bytes
from egoflow.data.flow_files import FlowFormat, write_flow_file
from egoflow.data.formats import write_flo, write_image, write_mask
from egoflow.errors import DataError
from egoflow.geometry.flow import forward_backward_error
from egoflow.inference.flow_colour import flow_colours, flow_legend
from egoflow.inference.flow_stream import FlowPrediction, flow_pairs
from egoflow.inference.held_video import HeldVideo, frames_per_s
from egoflow.inference.stream import leads_to, neighbours_apart, predicted_frames
from egoflow.inference.writer import describe
from egoflow.losses.masks import forward_backward_visible
from egoflow.types import FlowSource, FrameSource

ALPHA, BETA_PX2 = 0.01, 0.5
"""Of the forward-backward check: |f + b|^2 <= ALPHA (|f|^2 + |b|^2) + BETA_PX2 (Sundaram 2010)."""
KITTI_LIMIT_PX = 512
"""What KITTI's 16 bits hold; flow beyond it is written as unknown."""


class FlowWriter:
    """Receive flows pair by pair and leave a folder behind; memory does not grow with the video.

    Of every pair (a, b), under the name of frame a (below a folder of its source, where frames of several sources share
    a name): ``flow/`` (.flo, or KITTI's 16-bit .png), ``occlusion/`` (white: hidden in b, or out of view),
    ``confidence/`` (8 bit), and where the source knows them ``truth/`` (.flo) and ``truth_visible/`` (white: seen in
    b). Besides, ``flow.mp4`` (frame a above the flow's colours), ``flow_legend.png`` and ``prediction.json``. The
    video has a picture for every pair of neighbours: one that could not be predicted shows the one before.
    """

    def __init__(self, folder: Path, *, sources: Sequence[FrameSource], run: Run, size: tuple[int, int] | None = None,
                 flow_format: FlowFormat = "flo", video: bool = True) -> None:
        self.folder, self.sources, self.run, self.size = folder, list(sources), run, size
        self.flow_format: FlowFormat = flow_format
        self.pairs = sum(len(flow_pairs(run, source)) for source in sources)
        self._numbers, self._folders = {id(source): k for k, source in enumerate(sources)}, _folders(sources)
        apart = neighbours_apart(run)
        self._starts = np.cumsum([0, *(max(len(predicted_frames(run, source)) - apart, 0) for source in sources)])
        fps = frames_per_s(sources[0], predicted_frames(run, sources[0]))
        self._video = HeldVideo(folder / "flow.mp4", fps=fps) if video else None
        self._colour = _SlowScale()
        self._seen: set[tuple[int, int]] = set()
        self._out_of_range = self._truths = 0

    def __enter__(self) -> "FlowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._video is not None:
            self._video.__exit__(kind, value, trace)

    def add(self, pair: FlowPrediction) -> None:
        """Write the files of one pair."""
        number = self._numbers[id(pair.source)]
        name = self._name(number, pair.a)
        self._seen.add((number, pair.a))
        visible = forward_backward_visible(pair.flow_ab, pair.flow_ba, alpha=ALPHA, beta=BETA_PX2)[0, 0].numpy()
        write_mask(self.folder / "occlusion" / f"{name}.png", ~visible)
        _write_grey(self.folder / "confidence" / f"{name}.png", confidence(pair.flow_ab, pair.flow_ba))
        flow = pair.flow_ab[0].numpy()
        self._write_flow(name, flow.transpose(1, 2, 0))
        self._write_truth(name, pair)
        if self._video is not None:
            picture = np.concatenate((pair.image, flow_colours(flow, largest=self._colour(flow))), axis=0)
            frames = predicted_frames(self.run, pair.source)
            self._video.show(picture, position=int(self._starts[number]) + frames.index(pair.a))

    def finish(self) -> int:
        """Write the legend and the description; return the number of pairs written."""
        if self._video is not None:
            self._video.finish(int(self._starts[-1]))
            write_image(self.folder / "flow_legend.png", flow_legend())
        if self._out_of_range:
            note(f"{self._out_of_range} pixels move by {KITTI_LIMIT_PX} px or more, which KITTI's format cannot hold; "
                 f"they are written as unknown (--flow-format flo holds them)")
        missing = [self._name(k, a) for k, source in enumerate(self.sources) for a, _ in flow_pairs(self.run, source)
                   if (k, a) not in self._seen]
        names = [source.name for source in self.sources]
        about = {"method": f"{self.run.method}:{self.run.preset}", "gap": self.run.data.gap}
        about |= {"source": names[0]} if len(names) == 1 else {"sources": names}
        describe(self.folder, about | {"flow": {
            "pairs": len(self._seen), "not_readable": missing, "with_truth": self._truths, "format": self.flow_format,
            "computed_at": "native" if self.size is None else f"{self.size[0]}x{self.size[1]}",
            "flow": f"NAME leads from frame NAME to {leads_to(self.run.data.gap)}, in pixels of the image, x then y",
            "occlusion": "white unless |f + b|^2 <= alpha (|f|^2 + |b|^2) + beta_px2 and in view",
            "alpha": ALPHA, "beta_px2": BETA_PX2,
            "confidence": "255 / (1 + |f + b| / px), 0 out of view",
            "full_colour_px": self._colour.range_px}})
        return len(self._seen)

    def _name(self, number: int, index: int) -> str:
        """Return what the files of the pair of a source that begins with this frame are called, without suffix."""
        return f"{self._folders[number]}/{self.sources[number].frame_name(index)}".lstrip("/")

    def _write_flow(self, name: str, flow: np.ndarray) -> None:
        """Write a flow [H, W, 2] in the chosen format."""
        if self.flow_format == "kitti":
            # The last step below the upper limit rounds down from half a step (1/128 px) above it.
            fits = (flow >= -KITTI_LIMIT_PX - 1 / 128) & (flow < KITTI_LIMIT_PX - 1 / 128)
            self._out_of_range += int((~fits.all(axis=2)).sum())
        write_flow_file(self.folder / "flow" / name, flow, format=self.flow_format)

    def _write_truth(self, name: str, pair: FlowPrediction) -> None:
        """Write what the source knows of the pair."""
        if not isinstance(pair.source, FlowSource):
            return
        try:
            truth = pair.source.flow_truth(pair.a, pair.b)
        except DataError as error:
            note(f"no true flow: {error}")
            return
        if truth is None:
            return
        self._truths += 1
        write_flo(self.folder / "truth" / f"{name}.flo", truth.flow_ab.transpose(1, 2, 0), truth.valid)
        if truth.visible is not None:
            write_mask(self.folder / "truth_visible" / f"{name}.png", truth.visible)


class _SlowScale:
    """How long a flow is drawn in full colour: moves slowly, so that a video does not flicker."""

    def __init__(self, *, inertia: float = 0.9) -> None:
        self._inertia = inertia
        self._now: float | None = None
        self.range_px: tuple[float, float] | None = None

    def __call__(self, flow: np.ndarray) -> float:
        """Return the length in pixels for a flow [2, H, W]: nearly its longest."""
        longest = float(np.percentile(np.hypot(*flow), 99))
        self._now = longest if self._now is None else self._inertia * self._now + (1 - self._inertia) * longest
        low, high = self.range_px or (self._now, self._now)
        self.range_px = (min(low, self._now), max(high, self._now))
        return self._now


def confidence(flow_ab: Tensor, flow_ba: Tensor) -> np.ndarray:
    """Return uint8 [H, W]: 255 / (1 + e) where following both flows [1, 2, H, W] ends e pixels off, 0 out of view.

    One pixel off is half of the confidence.
    """
    error, _, inside = forward_backward_error(flow_ab, flow_ba)
    value = torch.where(inside, 255 / (1 + error.sqrt()), torch.zeros_like(error))
    return value[0, 0].round().to(torch.uint8).numpy()


def _write_grey(path: Path, value: np.ndarray) -> None:
    """Write uint8 [H, W] as a grey PNG."""
    write_bytes(path, cv2.imencode(".png", value)[1].tobytes())


def _folders(sources: Sequence[FrameSource]) -> list[str]:
    """Return below which folder the files of each source lie: none where the frames' own names tell them apart.

    Else it is the source's name without what all names begin with: of sintel/clean/alley_1 and sintel/clean/alley_2
    the last part, as in the data set's own folder of flow.
    """
    names = [source.frame_name(index) for source in sources for index in range(len(source) - 1)]
    if len(sources) == 1 or len(set(names)) == len(names):
        return [""] * len(sources)
    parts = [re.split(r"[/\\]+", source.name) for source in sources]
    shared = min(len(os.path.commonprefix(parts)), min(map(len, parts)) - 1)
    # Without dots at the start, which would hide the files or lead out of the folder.
    safe = ["/".join(re.sub(r"[^\w.-]+", "_", part).strip("._") or "_" for part in own[shared:]) for own in parts]
    count = Counter(safe)
    return [name if count[name] == 1 else f"{name}_{k}" for k, name in enumerate(safe)]
