"""Find methods by listing ``methods/``; listing imports nothing, so a broken file breaks only itself."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from egoflow import methods
from egoflow.config import Run
from egoflow.errors import ConfigError

if TYPE_CHECKING:
    from egoflow.methods.base import Method

SUPPORT = frozenset({"base", "beneath", "moving", "solved", "start", "trio", "views"})
"""Modules of ``methods/`` that hold what methods share, and are no method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """A loaded method: its configuration type, its class and its presets by name."""

    name: str
    config_type: type
    method_type: type
    presets: dict[str, Callable[[], Run]]


def available_methods() -> list[str]:
    """Return the names of the built-in methods."""
    return sorted(m.name for m in pkgutil.iter_modules(methods.__path__) if m.name not in SUPPORT)


def load_method(name: str) -> MethodEntry:
    """Return the method ``sfmlearner`` or, from outside, ``my_package.my_method``.

    Raises ConfigError with the nearest name for an unknown method, or naming what a method file lacks.
    """
    known = available_methods()
    if name not in known and "." not in name:
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(f"unknown method {name!r}; " + (f"perhaps you meant {near[0]}" if near else
                                                          f"known: {', '.join(known)}"))
    path = f"egoflow.methods.{name}" if name in known else name
    if not all(part.isidentifier() for part in path.split(".")):
        raise ConfigError(f"method {name!r}: expected a name such as {known[0]}, or my_package.my_method")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ConfigError(f"method {name!r}: cannot import {error.name}; install it, put its folder on PYTHONPATH, or "
                          f"correct the name") from None
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"method {name!r}: its file cannot be imported: {error}") from None
    return _entry(name, module)


def _entry(name: str, module: ModuleType) -> MethodEntry:
    """Collect Config, the one Method subclass and the preset functions of a module."""
    from egoflow.methods.base import Method

    own = [v for v in vars(module).values() if inspect.isclass(v) and v.__module__ == module.__name__]
    classes = [v for v in own if issubclass(v, Method)]
    config = getattr(module, "Config", None)
    if len(classes) != 1 or config is None:
        raise ConfigError(f"method {name!r}: its file must define Config and exactly one Method class")
    presets = {k: f for k, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__
               and not k.startswith("_") and inspect.signature(f).return_annotation is Run}
    if not presets:
        raise ConfigError(f"method {name!r}: its file must define at least one preset, a function that returns Run")
    return MethodEntry(name=name, config_type=config, method_type=classes[0], presets=presets)


def build_method(run: Run) -> "Method":
    """Return the run's method, untrained; raise ConfigError where its motion cannot be had as ``run.motion`` says."""
    return load_method(run.method).method_type(run.config).use_motion(run.motion)


def load_preset(spec: str) -> tuple[MethodEntry, Run]:
    """Return the method and run of ``method:preset``; without a preset, the first one in the file.

    Raises ConfigError for an unknown method or preset.
    """
    name, _, preset = spec.partition(":")
    entry = load_method(name)
    preset = preset or next(iter(entry.presets))
    if preset not in entry.presets:
        near = difflib.get_close_matches(preset, entry.presets, n=1)
        raise ConfigError(f"unknown preset {preset!r} of {name}; " + (
            f"perhaps you meant {near[0]}" if near else f"known: {', '.join(entry.presets)}"))
    return entry, entry.presets[preset]()
