"""The configuration of a run: typed, frozen, saved as JSON, changed by ``--set key=value``."""

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import pydantic
import yaml

from egoflow.errors import ConfigError

STRICT = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
Count = Annotated[int, pydantic.Field(ge=1)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(ge=0, lt=1)]
Probability = Annotated[float, pydantic.Field(ge=0, le=1)]
Amount = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, pydantic.Field(gt=0, le=1)]
MotionMode = Literal["net", "solved", "refined"]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a training clip.

    Flips and ``scale_crop`` carry the camera. ``zoom`` to ``relative_translate`` change the picture as no camera does,
    and are for methods of flow alone; the true flow follows them (data/affine.py).
    """

    __pydantic_config__ = STRICT
    scale_crop: Share = 0.0
    """Largest enlargement before the random crop: 0.15 scales each axis by U(1, 1.15) (Zhou 2017, released code)."""
    flip: bool = False
    """Mirror half of the clips left to right."""
    colour: Share = 0.0
    """Strength of brightness, contrast, gamma, saturation and hue jitter, one draw per clip."""
    asymmetric: Probability = 0.0
    """Share of clips whose frames draw their colours each on its own (RAFT's code: 0.2)."""
    flip_vertical: bool = False
    """Mirror a tenth of the clips upside down (RAFT's code)."""
    zoom: tuple[Positive, Positive] = (1.0, 1.0)
    """Enlargement about a random point, log-uniform between the two (FlowNet: 0.9 to 2)."""
    stretch: Amount = 0.0
    """Each axis further by 2^U(-stretch, stretch) (RAFT's code: 0.2)."""
    rotate_deg: Amount = 0.0
    """Turn about the centre by U(-rotate_deg, rotate_deg) (FlowNet: 17)."""
    translate: Share = 0.0
    """Shift along each axis by U(-translate, translate) of the width (FlowNet: 0.2)."""
    relative_zoom: Amount = 0.0
    """Enlargement of each frame against the one before by (1 + relative_zoom)^U(-1, 1)."""
    relative_rotate_deg: Amount = 0.0
    """Turn of each frame against the one before by U(-relative_rotate_deg, relative_rotate_deg)."""
    relative_translate: Share = 0.0
    """Shift of each frame against the one before, along each axis, as a share of the width."""
    noise: Amount = 0.0
    """Gaussian noise of a deviation U(0, noise), for colours in [0, 1] (FlowNet: 0.04)."""
    erase: Probability = 0.0
    """Probability that one or two rectangles of a frame other than the target, 50 to 100 px wide and high where the
    image is 384 px high, take its mean colour (RAFT's code: 0.5)."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which frames are trained on and at which size."""

    __pydantic_config__ = STRICT
    paths: tuple[str, ...] = ()
    """Videos, folders, or worlds as ``world:drive?seed=3&frames=60``."""
    camera: str | None = None
    """``camera.json``, ``fx,fy,cx,cy`` or ``fov=70``, for sources that bring no intrinsics."""
    frames: str | None = None
    """Python slice of the readable frames, e.g. ``0:200``."""
    height: Count = 128
    width: Count = 416
    crop: tuple[Count, Count] | None = None
    """Height and width of the random window that training clips are cut to, after every other change; None: whole."""
    gap: Count = 1
    """Distance in frames between neighbours of a clip."""
    stride: Count = 1
    """Distance in frames between the starts of clips."""
    validation: Share = 0.0
    """Share of every source's frames (of a set of pairs: of its scenes) that is held out, to choose best.safetensors
    by the loss on them; 0: none."""
    on_broken: Literal["skip", "refuse"] = "skip"
    static_frames: str | None = None
    """Published list of still frames (lines ``date drive frame``) that are no targets (KITTI raw, Zhou 2017)."""
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its schedule."""

    __pydantic_config__ = STRICT
    lr: Positive = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Amount = 0.0
    decoupled_weight_decay: bool = False
    """Shrink weights beside Adam's step (AdamW) and not through its moments."""
    muon: tuple[str, ...] = ()
    """Networks whose hidden convolutions take Muon's steps in place of Adam's (training/muon.py)."""
    batch_size: Count = 4
    """Clips a step, over all processes."""
    clip_norm: Positive | None = 10.0
    """Largest norm of the gradient of each network; None switches clipping off."""
    schedule: Literal["constant", "one_cycle", "one_cycle_linear", "halving"] = "constant"
    halve_at: tuple[Share, ...] = ()
    """Shares of each phase after which ``halving`` halves the rate."""
    warm_up: Share = 0.0
    """Share of each phase over which ``halving`` rises to the rate from a hundredth of it."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Length, precision and book-keeping of the training loop."""

    __pydantic_config__ = STRICT
    steps: Count = 150_000
    minutes: Positive | None = None
    """Stop, saved, after this time; the schedule still counts steps."""
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)] = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks in training; auto is bfloat16 where the device multiplies in it (training/precision.py)."""
    channels_last: bool = True
    workers: Annotated[int, pydantic.Field(ge=0)] = 0
    log_every: Count = 10
    save_every: Count = 500
    keep_best: bool = True
    watchdog: bool = True


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides a run; ``config`` is the method's own typed configuration."""

    __pydantic_config__ = STRICT
    method: str
    config: Any
    preset: str = ""
    start: Literal["two_view", "none"] = "none"
    """Teach depth and motion by classical two-view geometry first (specs: two-view start)."""
    motion: MotionMode = "net"
    """Camera motion as the network regresses it, solved from depth and two-view geometry, or the network's refined by
    depth and flow (methods/solved.py). For any method that gives depth and motion."""
    every_frame: bool = False
    """Predict every frame, by neighbours ``data.gap`` frames away; else only frames so far apart."""
    metres_per_unit: Positive | None = None
    """Length of the unit of its depth and motion, where that is known (``egoflow scale``)."""
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def one_line(error: pydantic.ValidationError) -> str:
    """Return a pydantic error as one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def with_settings(run: Run, settings: list[str]) -> Run:
    """Return ``run`` with each ``key=value`` applied; values are YAML, checked against the field's type.

    Raises ConfigError for a missing ``=``, an unknown key (with the nearest match) or a value of the wrong type.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected key=value, e.g. --set optim.lr=1e-4")
        if key.strip() in ("method", "preset"):
            raise ConfigError(f"--set {setting}: name it as METHOD:PRESET in place of {run.method}:{run.preset}")
        run = _replaced(run, key.strip().split("."), text, setting)
    return run


def _replaced(node: Any, path: list[str], text: str, setting: str) -> Any:
    """Return the dataclass ``node`` with the field at ``path`` set to the parsed ``text``."""
    names = [f.name for f in dataclasses.fields(node)]
    if path[0] not in names:
        near = difflib.get_close_matches(path[0], names, n=1)
        hint = f"; perhaps you meant {near[0]}" if near else f"; known here: {', '.join(names)}"
        raise ConfigError(f"--set {setting}: unknown key {path[0]!r}{hint}")
    current = getattr(node, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(current):
            raise ConfigError(f"--set {setting}: {path[0]} has no parts")
        return dataclasses.replace(node, **{path[0]: _replaced(current, path[1:], text, setting)})
    if dataclasses.is_dataclass(current):
        raise ConfigError(f"--set {setting}: {path[0]} is a group; set one of "
                          f"{', '.join(f.name for f in dataclasses.fields(current))}")
    kind = get_type_hints(type(node), include_extras=True)[path[0]]
    return dataclasses.replace(node, **{path[0]: _parsed(pydantic.TypeAdapter(kind), text, setting)})


def _parsed(kind: pydantic.TypeAdapter, text: str, setting: str) -> Any:
    """Return the YAML value of ``text``, or the text as it stands where only that is of the right type.

    YAML reads the slice ``10:50`` as 650 and ``100:`` as a mapping.
    """
    try:
        return kind.validate_python(yaml.safe_load(text))
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # YAML's dates raise ValueError, as pydantic does.
        reason = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else "not YAML"
    try:
        return kind.validate_python(text)
    except pydantic.ValidationError:
        raise ConfigError(f"--set {setting}: {reason}") from None


BOOK_KEEPING = frozenset({"steps", "minutes", "device", "workers", "log_every", "save_every", "keep_best", "watchdog"})
"""What may change of ``loop`` when a run is resumed: it does not change a step."""


def first_difference(a: Run, b: Run) -> str | None:
    """Return the first setting in which two runs differ, as ``optim.lr``, other than length and book-keeping."""
    def flat(node: Any, prefix: str = "") -> dict[str, Any]:
        if not dataclasses.is_dataclass(node):
            return {prefix: node}
        parts = [flat(getattr(node, f.name), f"{prefix}.{f.name}".lstrip(".")) for f in dataclasses.fields(node)]
        return {key: value for part in parts for key, value in part.items()}

    left, right = flat(a), flat(b)
    ignored = {f"loop.{name}" for name in BOOK_KEEPING} | {"preset"}
    return next((k for k in left | right if k not in ignored and left.get(k) != right.get(k)), None)


def run_to_json(run: Run) -> str:
    """Return the run as JSON text that ``run_from_json`` reads back."""
    return json.dumps(dataclasses.asdict(run), indent=1, default=str)


def run_from_json(text: str, config_type: type, *, name: str | Path = "run.json") -> Run:
    """Return the run written by ``run_to_json``; ``config_type`` is the method's Config.

    Raises ConfigError that names ``name`` for anything that is not such a file.
    """
    try:
        raw = json.loads(text)
        config = raw.pop("config")
        if unknown := set(config) - {f.name for f in dataclasses.fields(config_type)}:
            raise ConfigError(f"{name}: unknown setting config.{min(unknown)}; was it written by another version?")
        config = pydantic.TypeAdapter(config_type).validate_python(config)
        return dataclasses.replace(pydantic.TypeAdapter(Run).validate_python({**raw, "config": None}), config=config)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{name}: {one_line(error)}") from None
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{name}: not a run configuration written by egoflow") from None
