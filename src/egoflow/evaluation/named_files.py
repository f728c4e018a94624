"""Files of an evaluation, matched by the name of their image or pair, however their folders are laid out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from egoflow.data.files import natural_key
from egoflow.errors import DataError

# FlyingChairs calls a pair 00001_img1, 00001_img2, 00001_flow; Middlebury frame10, frame11, flow10.
_ROLE = re.compile(r"_(flow|img[0-9])$|^(flow|frame)(?=[0-9]+$)")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Generic[Item]):
    """Files by the name of their pair; ``single``: one file was given, which fits any one name."""

    where: Path
    what: str
    items: Mapping[str, Item]
    single: bool = False

    def count(self) -> str:
        """Return how many there are, in words."""
        return f"{len(self.items)} {self.what}{'' if len(self.items) == 1 else 's'}"

    def of(self, name: str) -> Item:
        """Return what belongs to a pair; DataError where nothing does."""
        if self.single:
            return next(iter(self.items.values()))
        if name not in self.items:
            raise DataError(f"{self.where}: holds no {self.what} for the pair {name}; every scored pair needs one")
        return self.items[name]


def pair_name(path: Path, folder: Path) -> str:
    """Return the name a file is matched by: its path below ``folder``, without suffix and role in its pair.

    Folders are joined by "_", as 'egoflow predict' does where frames of several sources share a name.
    """
    below = path.relative_to(folder)
    return "_".join((*below.parts[:-1], _ROLE.sub("", path.stem)))


def inner_folders(path: Path, name: str) -> list[Path]:
    """Return the folder ``name`` in ``path``, or those in the folders of ``path``."""
    return [path / name] if (path / name).is_dir() else [f for f in path.glob(f"*/{name}") if f.is_dir()]


def listed(path: Path, suffixes: tuple[str, ...], *, what: str, inner: str = "") -> Named[Path]:
    """Return the one file given, or the files of the first suffix that a folder holds (in its folders ``inner``)."""
    expected = f"{what}s ({', '.join(suffixes)})"
    if path.is_file():
        return Named(where=path, what=what, items={pair_name(path, path.parent): path}, single=True)
    if not path.is_dir():
        raise DataError(f"{path}: expected a file or a folder of {expected}; there is none of this name")
    folders = (inner_folders(path, inner) if inner else []) or [path]
    named = [("" if path in (folder, folder.parent) else f"{folder.parent.name}_", folder) for folder in folders]
    files = sorted((file, prefix + pair_name(file, folder)) for prefix, folder in named for file in folder.rglob("*")
                   if file.is_file() and not file.name.startswith("."))
    found = next((some for suffix in suffixes if (some := [f for f in files if f[0].suffix.lower() == suffix])), [])
    if not found:
        raise DataError(f"{path}: holds no {expected}")
    items: dict[str, Path] = {}
    for file, name in found:
        # Of 00001_img1 and 00001_img2 the first is the one whose grid the flow is on.
        if items.setdefault(name, file) != file and "_img" not in file.stem:
            raise DataError(f"{file}: {items[name]} has the same name; leave one of them")
    return Named(where=path, what=what, items=items)


def common_names(truth: Named, others: Sequence[Named]) -> list[str]:
    """Return the names that the truth and all others hold, in natural order; DataError when there is none.

    Two single files belong together whatever they are called.
    """
    common = set(truth.items)
    for side in others:
        common &= common if side.single and truth.single else side.items.keys()
    if not common:
        held = [f"{side.where} holds {side.count()} (such as {next(iter(side.items))})" for side in (truth, *others)]
        raise DataError(f"no names match: {', '.join(held)}; what belongs to a pair must have the same name up to the "
                        f"suffix")
    return sorted(common, key=natural_key)


def refuse_single(sides: Sequence[Named | None], names: Sequence[str]) -> None:
    """Raise DataError where one file was given for what several pairs need."""
    for side in sides:
        if side is not None and side.single and len(names) > 1:
            raise DataError(f"{side.where}: one {side.what} for {len(names)} pairs; give a folder of them")


def agree(path: Path, size: Sequence[int], truth: Path, true_size: Sequence[int]) -> None:
    """Raise DataError unless both files have one size (height, width)."""
    if tuple(size) != tuple(true_size):
        shapes = ["x".join(map(str, shape)) for shape in (size, true_size)]
        raise DataError(f"{path} is {shapes[0]}, but {truth} is {shapes[1]}; sizes must agree (flow and masks cannot "
                        f"be compared across sizes)")
