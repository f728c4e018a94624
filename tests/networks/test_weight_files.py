"""Files of published weights: both formats, and what holds no weights is refused in one line without running it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from egoflow.errors import CheckpointError
from egoflow.networks.weight_files import read_tensors

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2)}


class Danger:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ("ran",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_formats(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    if kind == "safetensors":
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == "zip")
    found = read_tensors(path)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", ["nothing", "empty", "text", "folder", "half"])
def test_no_weights(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content == "half":
        (torch.save if name == "a.pth" else save_file)(WEIGHTS, path)
        path.write_bytes(path.read_bytes()[:100])
    elif content != "nothing":
        path.write_text("<html>not found</html>" if content == "text" else "")
    refused(path, "no such file" if content == "nothing" else "damaged, or more than tensors")


@pytest.mark.parametrize(("content", "reason"), [
    ({"a": Danger()}, "damaged, or more than tensors"), ([torch.zeros(1)], "holds no tensors by name"),
    ({"state_dict": WEIGHTS}, "holds no tensors by name"), ({0: torch.zeros(1)}, "holds no tensors by name")])
def test_other_things_than_weights(content: object, reason: str, tmp_path: Path, capsys) -> None:
    torch.save(content, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", reason)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_file_of_the_old_format(tmp_path: Path) -> None:
    """Each byte of the table of contents, damaged in turn, gives the weights or one line, never another error."""
    path = tmp_path / "a.pth"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    whole, refusals = path.read_bytes(), 0
    for place in range(20, 320):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1:])
        try:
            read_tensors(path)
        except CheckpointError:
            refusals += 1
    assert refusals > 100


def refused(path: Path, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
