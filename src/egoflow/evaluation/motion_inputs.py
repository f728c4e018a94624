"""The files of an evaluation of motion masks: predicted probabilities and true masks, matched by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from egoflow.data.folders import IMAGE_FOLDERS
from egoflow.data.formats import read_image, read_mask
from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.inputs import inside_run
from egoflow.evaluation.named_files import Named, agree, common_names, inner_folders, listed

White = Literal["static", "movers"]
_WORDS = {"static": "masks, white stands still", "movers": "masks, above 0 moves"}


def mover_files(path: Path) -> Named[Path]:
    """Return predicted masks or probabilities (.png, 255 = moves): a file, a folder, or one that holds ``mover``."""
    path = inside_run(path)
    if (path / "prediction.json").is_file() and not inner_folders(path, "mover"):
        raise DataError(f"{path}: holds no folder mover; the method that wrote it predicts no masks of what moves")
    return _masks(path, inner="mover", what="mover mask")


def true_mask_files(path: Path, *, white: White) -> Named[Path]:
    """Return true masks: a file, a folder, or (``white`` "static") a rendered world or clip that holds ``static``."""
    if white not in _WORDS:
        raise ConfigError(f"unknown meaning '{white}' of white; use one of {', '.join(get_args(White))}")
    return _masks(path, inner="static" if white == "static" else "", what="mask")


def _masks(path: Path, *, inner: str, what: str) -> Named[Path]:
    """Return the masks of a file or folder, never a clip's images in their place."""
    clip = any((path / name).is_dir() for name in IMAGE_FOLDERS)
    if clip and not (inner and inner_folders(path, inner)):
        wanted = f"no folder {inner} of masks" if inner else "images"
        raise DataError(f"{path}: holds {wanted}; give the folder of the masks themselves")
    return listed(path, (".png",), what=what, inner=inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskComparison:
    """All files of an evaluation; ``white`` says what white (above 0) means in the truth."""

    prediction: Named[Path]
    truth: Named[Path]
    white: White = "static"

    def names(self) -> list[str]:
        """Return the images that both hold, in natural order; DataError when there is none."""
        return common_names(self.truth, [self.prediction])

    def describe(self) -> dict[str, str]:
        """Return what was matched with what, for the table."""
        return {"truth": _WORDS[self.white],
                "files": f"by name, of {self.truth.count()} of the truth, {self.prediction.count()}"}

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the predicted probability [H, W] in [0, 1] and what moves, bool [H, W], of one image.

        Raises DataError where sizes differ, a file is damaged, or a prediction has colours.
        """
        path, truth = self.prediction.of(name), self.truth.of(name)
        image, mask = read_image(path), read_mask(truth)
        if (image != image[..., :1]).any():
            raise DataError(f"{path}: expected a grey image of the probability of moving (255 = moves), found colours")
        agree(path, image.shape[:2], truth, mask.shape)
        return image[..., 0] / 255, ~mask if self.white == "static" else mask
