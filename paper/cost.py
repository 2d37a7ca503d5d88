"""What a layer table costs: parameters, neurons, multiplications, bytes held, bytes crossing. Arithmetic only.

Every figure of the paper that is arithmetic comes from here.
"""

from dataclasses import dataclass
from math import prod

from paper.architecture import Activation, Conv, Dense, Dropout, Layer, Local, Network, Norm, SpatialNorm, Weighted

FLOPS_PER_MAC = 2
# Places of a map that a part of a convolution's gradient covers: ``partialSum`` in layers-145.cfg of the 2012 code,
# whose layer.cu (ConvLayer::bpropWeights) holds the parts in a buffer of the layer's, for one of its inputs at a time.
PARTIAL_SUMS = {"conv1": 5, "conv2": 3, "conv3": 13, "conv4": 13, "conv5": 13}


def weights(layer: Weighted) -> int:
    return prod(layer.weight_shape)


def parameters(network: Network) -> int:
    """Weights and biases of the whole network."""
    return sum(prod(shape) for shape in network.parameter_shapes().values())


def parameters_of(layer: Layer) -> int:
    """Weights and biases of one layer; 0 where it has none."""
    return weights(layer) + prod(layer.bias_shape) if isinstance(layer, Weighted) else 0


def biases(network: Network) -> int:
    return sum(prod(layer.bias_shape) for layer in network.weighted())


def column_parameters(network: Network, *, whole_fc8: bool = False) -> list[int]:
    """Parameters held by each column; ``whole_fc8`` puts fc8 on column 0, as the 2012 code had it on one GPU."""
    last = network.layers[-1]
    assert isinstance(last, Weighted)
    held_by_one = weights(last) + prod(last.bias_shape)
    shared = (parameters(network) - held_by_one) // network.columns
    if whole_fc8:
        return [shared + held_by_one] + [shared] * (network.columns - 1)
    return [shared + held_by_one // network.columns] * network.columns


def macs(layer: Layer) -> int:
    """Multiply-accumulates of one image's forward pass, counting layers with weights only."""
    if isinstance(layer, Conv):
        _, rows, columns = layer.shape_out
        return weights(layer) * rows * columns
    return weights(layer) if isinstance(layer, Dense | Local) else 0


def forward_macs(network: Network) -> int:
    return sum(macs(layer) for layer in network)


def train_flops(network: Network) -> int:
    """Floating-point operations to train on one image: forward, both gradients, none into the input image."""
    return sum(layer_train_flops(network, layer) for layer in network)


def layer_train_flops(network: Network, layer: Layer) -> int:
    passes = 2 if layer is network.layers[0] else 3
    return FLOPS_PER_MAC * passes * macs(layer)


def activations_moved(network: Network, layer: Layer) -> int:
    """Numbers read and written to train on an image, layer by layer; nothing takes the gradient by the image itself.

    Forward, input and output; for the gradient by the input, both gradients and, without weights, what the forward pass
    kept of the output; for the gradient by the weights, the input and a gradient.
    """
    inputs, outputs = prod(layer.shape_in), prod(layer.shape_out)
    forward = by_weights = by_input = inputs + outputs
    if not isinstance(layer, Weighted):
        return forward + by_input + outputs
    return forward + by_weights + (0 if layer is network.layers[0] else by_input)


def weights_moved(network: Network, layer: Layer, micro_batches: int = 1, *, added_up: bool = False) -> int:
    """Numbers read and written in a step for ``layer``'s weights.

    In each micro-batch they are read forward and, unless nothing lies below, backward; in each step their gradient is
    written and read, and the update reads and writes weights and momentum. ``added_up``: each micro-batch but the first
    has a gradient of its own, which is written, read, and added to what others left.
    """
    if not isinstance(layer, Weighted):
        return 0
    passes = 1 if layer is network.layers[0] else 2
    added = 4 * (micro_batches - 1) if added_up else 0
    return (passes * micro_batches + 6 + added) * weights(layer)


def busiest_column_train_flops(network: Network) -> float:
    """Of the column that holds fc8 whole, as on the 2012 GPUs: its half of the rest, and all of fc8."""
    last = layer_train_flops(network, network.layers[-1])
    return (train_flops(network) - last) / network.columns + last


def neurons(network: Network) -> dict[str, int]:
    """Outputs of each layer with weights; the paper's "neurons" (figure 2) without the input."""
    return {layer.name: prod(layer.shape_out) for layer in network.weighted()}


def crossing_floats(network: Network, *, whole_fc8: bool = False) -> dict[str, int]:
    """Numbers per image that leave a column in the forward pass, by the layer that reads them.

    A crossing layer needs each column's maps in every other column. ``whole_fc8``: fc8 stands on one column, so
    only the other columns' maps travel.
    """
    crossing: dict[str, int] = {}
    for layer in network.weighted():
        if layer.crosses:
            size = prod(layer.shape_in)
            others = network.columns - 1
            one_way = whole_fc8 and layer is network.layers[-1]
            crossing[layer.name] = size * others // network.columns if one_way else size * others
    return crossing


def crossing_bytes(network: Network, *, whole_fc8: bool = False, width: int = 4) -> int:
    """Bytes per image that leave a column in the forward pass; the gradients bring as many back."""
    return width * sum(crossing_floats(network, whole_fc8=whole_fc8).values())


@dataclass(frozen=True)
class Held:
    """Bytes that one device holds during a training step, by kind. ``activations``: all but the other three."""

    parameters: int
    gradients: int
    momentum: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.momentum + self.activations


def held_today(network: Network, batch: int, *, devices: int = 1, width: int = 4) -> Held:
    """Bytes on one device: each output is kept once, and the gradients alive at one time are the largest pair's.

    Columns over ``devices`` split everything but the input and the copies of what crosses, which each device holds
    whole.
    """
    held = parameters(network) * width // devices
    kept = prod(network.input_shape) + sum(prod(layer.shape_out) // devices for layer in network)
    if devices > 1:
        kept += sum(floats // devices for floats in crossing_floats(network).values())
    # Nothing takes the gradient by the image.
    pair = max((prod(layer.shape_in) + prod(layer.shape_out)) // devices for layer in network.layers[1:])
    return Held(held, held, held, (kept + pair) * batch * width)


def held_2012(network: Network, batch: int, *, devices: int = 1, weight_copies: int = 3, width: int = 4) -> Held:
    """The same under cuda-convnet's policy: every activation *and* its gradient stay allocated.

    Norm layers keep their denominators; ``weight_copies`` of 3 are weights, their increments (momentum) and their
    gradients, of 2 weights and increments with the gradient added in place. ReLU and dropout work in place, dropout by
    a mask that stays. A convolution's gradient by its weights is found in parts, each over so many places of the maps
    (:data:`PARTIAL_SUMS`; of a layer that is not there, in one part), which are held side by side before they are added
    up.
    """
    held = parameters(network) * width // devices
    outputs = denominators = parts = masks = 0
    for layer in network:
        size = prod(layer.shape_out) // devices
        if not isinstance(layer, Activation | Dropout):
            outputs += size
        if isinstance(layer, Norm | SpatialNorm):
            denominators += size
        if isinstance(layer, Dropout):
            masks += size
        if isinstance(layer, Conv):
            places = prod(layer.shape_out[1:])
            # A layer that reads both columns has an input of each; one buffer serves them, one after the other.
            inputs = network.columns if layer.crosses else 1
            parts += weights(layer) // devices // inputs * -(-places // PARTIAL_SUMS.get(layer.name, places))
    if devices > 1:
        outputs += sum(floats // devices for floats in crossing_floats(network).values())
    image = prod(network.input_shape)
    gradients = held if weight_copies == 3 else 0
    each = image + 2 * outputs + denominators + masks
    return Held(held, gradients, held, (each * batch + parts) * width)
