"""A step of the DeepSpeed backend on paper: which tensors torch's autograd and DeepSpeed's pipeline hold, and when.

Its peak is checked against torch's allocation events (``tests/deepspeed_impl/test_ledger.py``).
"""

from dataclasses import dataclass, field

from paper.architecture import Activation, Conv, Dense, Dropout, Layer, Norm, Pool, SpatialNorm, Weighted
from protocol.ledger.memory import Block, Memory, Part, keep

BUFFERS = 2  # of a pipeline's stage, at the least
INDEX = 8  # bytes of one of max pooling's int64 indices
COMPOSED = 3  # tensors that the operators of the norm within a map leave on the way
REORDERED = 3  # copies of a convolution's weights, in layouts of oneDNN's, that one call of it makes


Late = dict[str, list[Block]]  # by layer, what a convolution read and the gradient that came back to it


@dataclass
class Kept:
    """What a micro-batch's forward pass keeps: blocks for the pipeline's own sake, and by layer for the backward."""

    piped: list[Block] = field(default_factory=list)
    saved: dict[str, list[Block]] = field(default_factory=dict)


def step(part: Part) -> Memory:
    """The memory of one rank over a step."""
    memory = Memory()
    for layer in part.layers:
        for kind in ("parameters", "momentum"):
            memory.take(part.parameters(layer), layer, kind)
    if not part.reads_images:
        # What arrives is received in one place and copied to a buffer, where it stays with its gradient until the
        # buffer's next turn.
        buffers = max(BUFFERS, part.in_flight)
        memory.take((1 + 2 * buffers) * part.input(part.layers[0]), part.layers[0])
    if not part.ends_network:
        memory.take(part.output(part.layers[-1]), part.layers[-1])  # the gradients that come back are
    if part.reads_images:
        memory.take(part.waiting * part.micro_batches * part.input(part.layers[0]), part.layers[0])
    # A pipeline fills up, then goes forward and backward in turn.
    passes = [forward(part, memory) for _ in range(part.in_flight)]
    late = backward(part, memory, passes.pop(0), {})
    deferred = [layer for layer in part.layers if _is_deferred(part, layer)]
    for layer in deferred:  # what each micro-batch leaves for the gradient that is put off
        memory.take(part.micro_batches * (_back(part, layer) + part.output(layer)), layer)
    if part.micro_batches > part.in_flight:
        _catch_up(part, memory, late)
        passes.append(forward(part, memory))
    if passes:
        late = backward(part, memory, passes.pop(0), late)
    _catch_up(part, memory, late)
    for layer in deferred:
        _gradient(part, memory, layer, [])
    return memory


def _back(part: Part, layer: Layer) -> int:
    """Bytes of the gradient by what ``layer`` reads."""
    return part.input(layer) * (part.columns if part.crosses(layer) else 1)


def forward(part: Part, memory: Memory) -> Kept:
    found = Kept()
    start = part.layers[0]
    arrived = part.input(start)
    if part.reads_images:
        found.piped.append(memory.take(arrived, start))
    copied = memory.take(arrived, start)  # DeepSpeed's own, for this pass
    x = memory.take(arrived, start)  # with the maps last
    given = keep(x)
    for layer in part.layers:
        saved = found.saved[layer.name] = []
        if part.crosses(layer):
            parts = [memory.take(part.input(layer), layer) for _ in range(part.columns)]
            memory.pass_by(part.columns * part.input(layer), layer)
            gathered = memory.take(part.columns * part.input(layer), layer)
            memory.drop(x, *parts)
            x = gathered
        y = _layer_forward(part, memory, layer, x, saved)
        memory.drop(x)
        x = y
    if not part.ends_network:
        found.piped.append(memory.take(x.size, part.layers[-1]))  # sent with the maps first
    memory.drop(x, given, copied)
    return found


def _layer_forward(part: Part, memory: Memory, layer: Layer, x: Block, saved: list[Block]) -> Block:
    """What ``layer`` puts out; what it keeps goes to ``saved``."""
    size = part.output(layer)
    if isinstance(layer, Weighted):
        if part.lowered:
            saved.append(memory.take(part.parameters(layer) * part.lowered // part.width, layer))
        if isinstance(layer, Dense) and layer.shape_in[1] > 1:
            saved.append(memory.take(x.size, layer))  # flattened map by map
        else:
            saved.append(keep(x))
        y = memory.take(size, layer)
        if isinstance(layer, Conv):
            memory.pass_by(part.parameters(layer), layer)
        return y
    if isinstance(layer, Activation):
        y = memory.take(size, layer)
        saved.append(keep(y))
        return y
    if isinstance(layer, Norm):  # our operator
        saved.append(keep(x))
        return memory.take(size, layer)
    if isinstance(layer, SpatialNorm):
        whole = size * part.width // part.activation_width
        saved += [keep(x), memory.take(whole * COMPOSED, layer)]
        if part.lowered:
            memory.pass_by(whole, layer)
        return memory.take(size, layer)
    if isinstance(layer, Pool):
        saved += [keep(x), memory.take(size // part.activation_width * INDEX, layer)]
        return memory.take(size, layer)
    if isinstance(layer, Dropout):
        saved.append(memory.take(size, layer))
        return memory.take(size, layer)
    raise TypeError(f"the ledger does not know {type(layer).__name__}")


def backward(part: Part, memory: Memory, found: Kept, late: Late) -> Late:
    """``late``: what the last one has left to do. Returns what this one leaves."""
    left: Late = {}
    g = memory.take(part.output(part.layers[-1]), part.layers[-1])
    for layer in reversed(part.layers):
        saved = found.saved[layer.name]
        if _is_postponed(part, layer):
            _catch_up(part, memory, {layer.name: late.pop(layer.name, [])})
            left[layer.name] = [*saved[-1:], keep(g)]
            saved = saved[:-1]
        g = _layer_backward(part, memory, layer, g, saved)
        if part.crosses(layer):
            memory.pass_by(g.size, layer)
            own = memory.take(g.size // part.columns, layer)
            memory.drop(g)
            g = own
    memory.drop(g, *found.piped)
    return left


def _catch_up(part: Part, memory: Memory, late: Late) -> None:
    """The gradients by weight that a backward pass has left to do."""
    for layer in part.layers:
        if late.get(layer.name):
            memory.pass_by(REORDERED * part.parameters(layer) * part.activation_width // part.width, layer)
            _add_gradient(part, memory, layer, [])
            memory.drop(*late[layer.name])


def _layer_backward(part: Part, memory: Memory, layer: Layer, g: Block, saved: list[Block]) -> Block:
    """The gradient by ``layer``'s input; ``g`` and ``saved`` are let go."""
    back = _back(part, layer)
    if isinstance(layer, Weighted):
        y = memory.take(0 if layer is part.network.layers[0] else back, layer)
        _weights_backward(part, memory, layer, saved)
    elif isinstance(layer, SpatialNorm):
        whole = back * part.width // part.activation_width
        y = memory.take(whole, layer)
        memory.pass_by(whole, layer)
        if part.lowered:
            memory.drop(y)
            y = memory.take(back, layer)
    else:
        y = memory.take(back, layer)
    memory.drop(g, *saved)
    return y


def _weights_backward(part: Part, memory: Memory, layer: Weighted, saved: list[Block]) -> None:
    """The gradient by ``layer``'s weights, where it is not put off."""
    cast = [saved.pop(0)] if part.lowered else []
    if isinstance(layer, Conv):
        memory.pass_by(REORDERED * part.parameters(layer) * part.activation_width // part.width, layer)
    if _is_deferred(part, layer) or _is_postponed(part, layer):
        memory.drop(*cast)
    else:
        _add_gradient(part, memory, layer, cast)


def _add_gradient(part: Part, memory: Memory, layer: Layer, cast: list[Block]) -> None:
    """A micro-batch's gradient: a step's first stays, later ones are added to it."""
    there = memory.held[layer.name, "gradients"] > 0
    gradient = _gradient(part, memory, layer, cast)
    if there:
        memory.drop(gradient)


def _gradient(part: Part, memory: Memory, layer: Layer, cast: list[Block]) -> Block:
    size = part.parameters(layer)
    lowered = [memory.take(size * part.activation_width // part.width, layer)] if part.lowered else []
    memory.drop(*cast)
    gradient = memory.take(size, layer, "gradients")
    memory.drop(*lowered)
    return gradient


def _is_postponed(part: Part, layer: Layer) -> bool:
    return isinstance(layer, Conv) and part.micro_batches > 1 and not part.reads_images


def _is_deferred(part: Part, layer: Layer) -> bool:
    return isinstance(layer, Dense) and layer.groups == 1 and part.micro_batches > 1
