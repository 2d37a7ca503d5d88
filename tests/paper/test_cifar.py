"""The network for CIFAR-10 is the one of the released files, layer by layer."""

from math import prod

from paper.architecture import Activation, Conv, Dense, Local, Norm, Pool
from paper.cifar import RECIPE, conv_local
from paper.cost import forward_macs, macs, parameters


def test_its_layers_are_those_of_the_13_per_cent_file_and_with_norms_of_the_11_per_cent_file() -> None:
    plain = [(type(layer), layer.shape_out) for layer in conv_local(norm=False)]
    assert plain == [
        (Conv, (64, 24, 24)),
        (Activation, (64, 24, 24)),
        (Pool, (64, 12, 12)),
        (Conv, (64, 12, 12)),
        (Activation, (64, 12, 12)),
        (Pool, (64, 6, 6)),
        (Local, (32, 6, 6)),
        (Activation, (32, 6, 6)),
        (Local, (32, 6, 6)),
        (Activation, (32, 6, 6)),
        (Dense, (10, 1, 1)),
    ]
    normed = [layer.name for layer in conv_local()]
    assert normed[:8] == ["conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2"]
    for layer in conv_local():
        if isinstance(layer, Pool):
            assert (layer.window, layer.stride, layer.pad_end) == (3, 2, 1)
        if isinstance(layer, Norm):
            assert (layer.scale.size, layer.scale.sum_scale, layer.scale.beta, layer.scale.k) == (5, 0.0002, 0.75, 1)


def test_it_has_1_116_490_parameters() -> None:
    table = conv_local()
    assert parameters(table) == 1_116_490
    shapes = table.parameter_shapes()
    assert shapes["local3.weight"] == (32, 6, 6, 64, 3, 3)
    assert shapes["local3.bias"] == (32, 6, 6)
    assert prod(shapes["fc10.weight"]) == 11_520


def test_an_unshared_kernel_is_used_once() -> None:
    table = conv_local()
    assert {layer.name: macs(layer) for layer in table.weighted()} == {
        "conv1": 64 * 75 * 576,
        "conv2": 64 * 1600 * 144,
        "local3": 36 * 32 * 576,
        "local4": 36 * 32 * 288,
        "fc10": 11_520,
    }
    assert forward_macs(table) == 18_517_248


def test_kernels_of_the_convolutions_and_biases_do_not_decay() -> None:
    decays = {name: RECIPE.decay_of(name) for name in conv_local().parameter_shapes()}
    assert {name for name, decay in decays.items() if decay} == {"local3.weight", "local4.weight", "fc10.weight"}
    assert set(decays.values()) == {0.0, 0.004}
