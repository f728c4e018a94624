"""egoflow learns depth, camera motion and optical flow from plain, unlabelled video.

The names below are loaded when they are first used, so that ``import egoflow`` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egoflow.data.open import open_source
    from egoflow.errors import EgoflowError
    from egoflow.geometry.camera import Camera
    from egoflow.geometry.flow import backward_warp, rigid_flow
    from egoflow.geometry.se3 import SE3
    from egoflow.registry import available_methods, load_method
    from egoflow.types import Clip, Prediction, Trajectory, Truth
    from egoflow.worlds.base import load_world

__all__ = ["SE3", "Camera", "Clip", "EgoflowError", "Prediction", "Trajectory", "Truth", "available_methods",
           "backward_warp", "load_method", "load_world", "open_source", "rigid_flow"]

_MODULE_OF = {
    "SE3": "egoflow.geometry.se3",
    "Camera": "egoflow.geometry.camera",
    "Clip": "egoflow.types",
    "EgoflowError": "egoflow.errors",
    "Prediction": "egoflow.types",
    "Trajectory": "egoflow.types",
    "Truth": "egoflow.types",
    "available_methods": "egoflow.registry",
    "backward_warp": "egoflow.geometry.flow",
    "load_method": "egoflow.registry",
    "load_world": "egoflow.worlds.base",
    "open_source": "egoflow.data.open",
    "rigid_flow": "egoflow.geometry.flow",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("egoflow")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'egoflow' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
