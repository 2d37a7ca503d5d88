"""The facts of the paper's network, each in a few words, as a layer table and a preset have them."""

from collections.abc import Iterable

from paper.architecture import Activation, Conv, Dense, Dropout, Layer, Network, Norm, Pool, SpatialNorm, Weighted
from paper.cost import parameters
from paper.recipe import Preset

Words = dict[str, str]  # fact -> its value; a fact that does not arise, such as an absent norm's constants, is left out

# Fact: the section that states it, or that it follows from.
FACTS = {
    "layers": "3.5",
    "maps": "3.5",
    "kernels": "3.5",
    "kernel depth": "3.5",
    "strides": "3.5",
    "padding": "3.5",
    "map sizes": "3.5",
    "fc6's inputs": "3.5",
    "units": "3.5",
    "classes": "3.5",
    "read one column": "3.5",
    "read both columns": "3.5",
    "parameters": "1",
    "layers with biases": "5",
    "nonlinearity": "3.1",
    "norm after": "3.3",
    "norm and ReLU": "3.3",
    "norm and pooling": "3.5",
    "norm's window": "3.3",
    "norm's alpha": "3.3",
    "norm's beta": "3.3",
    "norm's k": "3.3",
    "norm's maps": "3.3",
    "norm within a map": "3.3",
    "pooling after": "3.5",
    "pooling's windows": "3.4",
    "pooling takes": "3.4",
    "pooling rounds": "3.4",
    "dropout after": "4.2",
    "dropout's share": "4.2",
    "dropout's scale": "4.2",
    "output": "3.5",
    "deviations": "5",
    "biases": "5",
}


def each(named: Iterable[tuple[str, str]]) -> str:
    """``value`` where all layers agree, else ``conv1 value, conv2 other``; empty of no layer."""
    pairs = list(named)
    values = {value for _, value in pairs}
    return values.pop() if len(values) == 1 else ", ".join(f"{name} {value}" for name, value in pairs)


def listed(found: Iterable[str]) -> str:
    return " ".join(found) or "none"


def table_words(table: Network, preset: Preset) -> Words:
    """The facts of a layer table."""
    weighted = list(table.weighted())
    convs = [layer for layer in weighted if isinstance(layer, Conv)]
    dense = [layer for layer in weighted if isinstance(layer, Dense)]
    followers = _followers(table)

    def after(kind: type[Layer]) -> list[str]:
        return [name for name, steps in followers.items() if any(isinstance(step, kind) for step in steps)]

    def place(name: str, kind: type[Layer]) -> int:
        return next(place for place, step in enumerate(followers[name]) if isinstance(step, kind))

    norms = {name: step for name, steps in followers.items() for step in steps if isinstance(step, Norm)}
    pools = {name: step for name, steps in followers.items() for step in steps if isinstance(step, Pool)}
    drops = [layer for layer in table if isinstance(layer, Dropout)]
    activations = {name: step for name, steps in followers.items() for step in steps if isinstance(step, Activation)}
    words = {
        "layers": f"{len(convs)} convolutional, {len(dense)} fully-connected",
        "maps": listed(str(layer.shape_out[0]) for layer in convs),
        "kernels": listed(str(layer.kernel) for layer in convs),
        "kernel depth": listed(str(layer.weight_shape[1]) for layer in convs),
        "strides": listed(str(layer.stride) for layer in convs),
        "padding": listed(padding(layer.pad, layer.pad + layer.pad_end) for layer in convs),
        "map sizes": listed(str(layer.shape_out[1]) for layer in convs),
        "fc6's inputs": str(dense[0].weight_shape[1] * dense[0].groups),
        "units": listed(str(layer.shape_out[0]) for layer in dense[:-1]),
        "classes": str(table.classes),
        "read one column": listed(layer.name for layer in weighted if layer.groups > 1),
        "read both columns": listed(layer.name for layer in weighted[1:] if layer.groups == 1),
        "parameters": f"{parameters(table):,}",
        "layers with biases": listed(layer.name for layer in weighted),
        "nonlinearity": each(
            (layer.name, {"relu": "ReLU"}.get(activations[layer.name].function, activations[layer.name].function))
            for layer in weighted[:-1]
        ),
        "norm after": listed(norms),
        "norm and ReLU": each(
            (name, "norm after ReLU" if place(name, Norm) > place(name, Activation) else "norm before ReLU")
            for name in norms
        ),
        "norm and pooling": each(
            (name, "norm before pooling" if place(name, Norm) < place(name, Pool) else "norm after pooling")
            for name in norms
        ),
        "norm's window": each((name, str(step.scale.size)) for name, step in norms.items()),
        "norm's alpha": each((name, f"{step.scale.sum_scale:.2g}") for name, step in norms.items()),
        "norm's beta": each((name, f"{step.scale.beta:.3g}") for name, step in norms.items()),
        "norm's k": each((name, f"{step.scale.k:.3g}") for name, step in norms.items()),
        "norm's maps": each((name, norm_maps(apart=step.groups > 1)) for name, step in norms.items()),
        "norm within a map": listed(after(SpatialNorm)),
        "pooling after": listed(pools),
        "pooling's windows": each((name, pool_windows(step.window, step.stride, 0)) for name, step in pools.items()),
        "pooling takes": "the largest",
        "pooling rounds": "windows fit",
        "dropout after": listed(after(Dropout)),
        "dropout's share": each((layer.name, "0.5") for layer in drops),
        "dropout's scale": each(
            (layer.name, "scaled in training" if layer.inverted else "scaled at test") for layer in drops
        ),
        "output": "logits",
        "deviations": each((layer.name, f"{preset.deviation_of(layer.name):.2g}") for layer in weighted),
        "biases": listed(f"{preset.bias_of(layer.name):.2g}" for layer in weighted),
    }
    return {fact: value for fact, value in words.items() if value}


def _followers(table: Network) -> dict[str, list[Layer]]:
    """What follows each weighted layer, up to the next."""
    followers: dict[str, list[Layer]] = {}
    for layer in table:
        if isinstance(layer, Weighted):
            followers[layer.name] = []
        else:
            list(followers.values())[-1].append(layer)
    return followers


def padding(before: int, after: int) -> str:
    """Rows past the end that no window reaches are not seen, so only more of them than before count."""
    return str(before) if after <= before else f"{before}+{after}"


def norm_maps(*, apart: bool) -> str:
    return "its own column's" if apart else "all"


def pool_windows(size: int, stride: int, pad: int) -> str:
    return f"{size} every {stride}" + (f", pad {pad}" if pad else "")
