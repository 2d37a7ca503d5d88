"""PyTorch's own files come in without PyTorch, in the new shape and the old, and give PyTorch's outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from protocol.exchange import torch_file
from protocol.exchange.fit import fit
from protocol.oracle.network import ForwardPass, forward
from tests.support.refusals import refused

CLASSES = 7
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours from 0 to 1


class Net(nn.Module):
    """torchvision's AlexNet at a quarter of its width: the one-weird-trick net, layers named as there."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(16, 48, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(48, 96, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(96, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(64 * 9, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(1024, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, CLASSES),
        )

    def forward(self, images: Any) -> Any:
        return self.classifier(self.features(images).flatten(1))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    return Net().eval()


def pixels() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (3, 3, 31, 31)).astype(np.float32)


def known(net: Net) -> np.ndarray:
    scaled = torch.from_numpy(pixels()) / 255
    mean, deviation = (torch.tensor(own)[:, None, None] for own in (MEAN, DEVIATION))
    with torch.no_grad():
        return np.asarray(net((scaled - mean) / deviation))


SHAPES = ["state", "checkpoint", "data parallel", "parameters"]


def held(net: Net, shape: str) -> Any:
    state = net.state_dict()
    match shape:
        case "checkpoint":
            return {"epoch": 90, "arch": "alexnet", "state_dict": state, "best_acc1": torch.tensor(56.5)}
        case "data parallel":
            return {"state_dict": {f"module.{name}": value for name, value in state.items()}}
        case "parameters":
            return dict(net.named_parameters())
    return state


@pytest.mark.parametrize("new", [True, False], ids=["zip", "in a row"])
@pytest.mark.parametrize("shape", SHAPES)
def test_known_weights_give_known_outputs(net: Net, tmp_path: Path, shape: str, new: bool) -> None:
    torch.save(held(net, shape), tmp_path / "net.pth", _use_new_zipfile_serialization=new)
    foreign = torch_file.read(tmp_path / "net.pth")
    model = fit(foreign, foreign.input, None, "net.pth")
    assert (model.spec.variant, model.spec.size, model.spec.classes) == ("owt", "small", CLASSES)
    images = pixels().astype(np.float64) - model.mean[:, None, None]
    tensors = {name: value.astype(np.float64) for name, value in model.tensors.items()}
    out, _ = forward(model.spec.network(), images, ForwardPass(tensors))
    own = known(net)
    assert np.abs(out - own).max() < 1e-5 * np.abs(own).max()


def test_views_half_precision_and_shared_numbers_are_read_as_torch_reads_them(net: Net, tmp_path: Path) -> None:
    state = net.state_dict()
    state["classifier.4.weight"] = state["classifier.4.weight"].t().contiguous().t()  # strides the other way round
    state["features.0.weight"] = state["features.0.weight"].half()
    torch.save(state, tmp_path / "net.pt")
    found = {layer.name: layer.weight for layer in torch_file.read(tmp_path / "net.pt").layers}
    np.testing.assert_array_equal(found["classifier.4"], state["classifier.4.weight"].numpy())
    np.testing.assert_array_equal(found["features.0"], state["features.0.weight"].numpy())


@pytest.mark.parametrize("new", [True, False], ids=["zip", "in a row"])
def test_a_whole_module_is_not_built(net: Net, tmp_path: Path, new: bool) -> None:
    torch.save(net, tmp_path / "net.pth", _use_new_zipfile_serialization=new)
    with refused("net.pth", "Net", "not run"):
        torch_file.read(tmp_path / "net.pth")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "in a row"])
def test_a_cut_or_damaged_file_is_refused_in_a_sentence(net: Net, tmp_path: Path, new: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    for share in (0, 0.0001, 0.3, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with refused("net.pth"):
            torch_file.read(path)


def test_a_network_without_its_norms_needs_to_be_told(tmp_path: Path) -> None:
    """Weights of Caffe's shape say nothing of the norms between them."""
    shapes = ((24, 3, 5, 5), (64, 12, 5, 5), (96, 64, 3, 3), (96, 48, 3, 3), (64, 48, 3, 3))
    state = {}
    for number, shape in enumerate((*shapes, (1024, 576), (1024, 1024), (8, 1024)), start=1):
        state[f"{number}.weight"], state[f"{number}.bias"] = torch.zeros(shape), torch.zeros(shape[0])
    torch.save(state, tmp_path / "net.pth")
    foreign = torch_file.read(tmp_path / "net.pth")
    with refused("--preset"):
        fit(foreign, foreign.input, None, "net.pth")
    assert fit(foreign, foreign.input, "caffe", "net.pth").spec.variant == "two_column"
