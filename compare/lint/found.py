"""The same facts as a lint's record shows them. What it does not show is left out."""

from collections.abc import Callable, Iterable
from math import prod

from compare.lint import responses
from compare.lint.expected import Words, each, listed, norm_maps, padding, pool_windows
from compare.lint.layers import BOTH, OWN, LintedLayer, layers
from protocol.lint.record import LintRecord, Operation, Response


def words_of(record: LintRecord) -> Words:
    """The facts of the network that was measured."""
    found = layers(record)
    words = _sizes(found) | _after(found[:-1])
    words["parameters"] = f"{record.parameters:,}"
    if record.unseen:
        words["parameters"] += f", {record.unseen:,} of them in none of the layers"
    if 2 * record.unseen > record.parameters:
        # Most of the network went by unseen: what was seen says nothing of how many layers there are.
        for fact in ("layers", "read one column", "read both columns", "units", "classes", "fc6's inputs"):
            words.pop(fact, None)
    if record.initialised:
        words["deviations"] = each((layer.name, _alike(map(_deviation, layer.operations))) for layer in found)
        words["biases"] = listed(_alike(map(_bias, layer.operations)) for layer in found)
    if record.ending:
        words["output"] = responses.output_of(record.ending)
    return {fact: value for fact, value in words.items() if value}


def _alike(values: Iterable[str]) -> str:
    """The value that operations side by side have in common, or all of their values."""
    return "/".join(dict.fromkeys(values))


def _sizes(found: list[LintedLayer]) -> Words:
    convs, dense = [layer for layer in found if not layer.dense], [layer for layer in found if layer.dense]
    words = {
        "layers": f"{len(convs)} convolutional, {len(dense)} fully-connected",
        "maps": listed(str(layer.maps) for layer in convs),
        "kernels": listed(_alike(map(_kernel, layer.operations)) for layer in convs),
        "kernel depth": listed(_alike(str(op.weight[1]) for op in layer.operations) for layer in convs),
        "map sizes": listed(_alike(str(op.shape_out[1]) for op in layer.operations) for layer in convs),
        "layers with biases": listed(layer.name for layer in found if all(op.bias for op in layer.operations)),
    }
    # Holes in a kernel, or strides beyond what was tried, fit no window, and show neither.
    if all(all(layer.windows) for layer in convs):
        words["strides"] = listed(_alike(str(w.stride) for w in layer.windows if w) for layer in convs)
        words["padding"] = listed(_alike(padding(w.pad, w.end) for w in layer.windows if w) for layer in convs)
    if all(layer.reads for layer in found[1:]):
        words["read one column"] = listed(layer.name for layer in found if layer.reads == OWN)
        words["read both columns"] = listed(layer.name for layer in found if layer.reads == BOTH)
    if dense:
        first = dense[0].operations[0]
        words["fc6's inputs"] = str(first.groups * prod(first.weight[1:]))
        words["units"] = listed(str(layer.maps) for layer in dense[:-1])
        words["classes"] = str(dense[-1].maps)
    return words


def _kernel(operation: Operation) -> str:
    rows, columns = operation.weight[2:]
    return str(rows) if rows == columns else f"{rows}x{columns}"


def _deviation(operation: Operation) -> str:
    """One digit where four standard errors of so many Gaussian weights allow it, else two."""
    deviation, mean = operation.weight_deviation, operation.weight_mean
    short = float(f"{deviation:.1g}")
    allowed = 4 * deviation / (2 * prod(operation.weight)) ** 0.5
    digits = 1 if abs(deviation - short) <= allowed else 2
    return f"{deviation:.{digits}g}" + (f" about {mean:.2g}" if abs(mean) > 0.1 * deviation else "")


def _bias(operation: Operation) -> str:
    if operation.bias_mean is None or operation.bias_deviation is None:
        return "none"
    spread = operation.bias_deviation
    return f"{operation.bias_mean:.2g}" if spread < 1e-6 else f"{operation.bias_mean:.2g}±{spread:.2g}"


def _after(found: list[LintedLayer]) -> Words:
    """What follows the layers, ``found`` being all that another one reads."""

    def where(holds: Callable[[Response], bool | None]) -> list[LintedLayer]:
        return [
            layer for layer in found if any(holds(response) for response in filter(responses.steady, layer.responses))
        ]

    def said(chosen: list[LintedLayer], say: Callable[[Response], str | None]) -> str:
        """What ``say`` makes of the chosen layers, those left out of which it makes nothing."""
        words = ((layer.name, _alike(filter(None, map(say, layer.responses)))) for layer in chosen)
        return each((name, value) for name, value in words if value)

    normed, pooled = where(responses.norms), where(responses.pools)
    dropped = [layer for layer in found if any(map(responses.drops, layer.responses))]
    words = {
        "nonlinearity": said(found, _nonlinearity),
        "norm and ReLU": said(normed, _norm_and_relu),
        "norm and pooling": said(normed, _norm_and_pooling),
        "norm's window": said(normed, lambda response: responses.window_words(response.neighbours)),
        "norm's alpha": said(normed, lambda response: _constant(response, "alpha", 2)),
        "norm's beta": said(normed, lambda response: _constant(response, "beta", 3)),
        "norm's k": said(normed, lambda response: _constant(response, "k", 3)),
        # Of columns that are operations of their own, none shows whether a norm reaches into the other.
        "norm's maps": said([layer for layer in normed if len(layer.operations) == 1], _norm_maps),
        "pooling's windows": said(pooled, _pool_windows),
        "pooling takes": said(pooled, _pool_takes),
        "pooling rounds": said(pooled, _pool_rounds),
        "dropout's share": said(dropped, _share),
        "dropout's scale": said(dropped, _scale),
    }
    if all(layer.responses for layer in found):
        words["pooling after"] = listed(layer.name for layer in pooled)
        told = [response for layer in found for response in layer.responses]
        # Where one layer does not show it, no list of those that have it is whole.
        if all(responses.norms(response) is not None for response in filter(responses.steady, told)):
            words["norm after"] = listed(layer.name for layer in normed)
            words["norm within a map"] = listed(layer.name for layer in where(responses.norms_within_map))
        if all(responses.drops(response) is not None for response in told):
            words["dropout after"] = listed(layer.name for layer in dropped)
    return words


def _nonlinearity(response: Response) -> str | None:
    if not responses.steady(response):
        return None
    seen = responses.nonlinearity(response)
    # A normalisation's own scale and shift make another of any.
    return None if response.batched and seen == "another" else seen


def _norm_and_relu(response: Response) -> str | None:
    if responses.nonlinearity(response) != "ReLU" or responses.window_of(response.neighbours) == 1:
        return None
    return "norm after ReLU" if responses.norm_follows_relu(response) else "norm before ReLU"


def _norm_and_pooling(response: Response) -> str | None:
    precedes = responses.norm_precedes_pooling(response)
    if precedes is None or not responses.pools(response):
        return None
    return "norm before pooling" if precedes else "norm after pooling"


def _constant(response: Response, name: str, digits: int) -> str | None:
    fit = responses.fit_norm(response)
    return f"{getattr(fit, name):.{digits}g}" if fit else None


def _norm_maps(response: Response) -> str | None:
    if responses.window_of(response.neighbours) == 1:
        return None
    return norm_maps(apart=responses.window_of(response.boundary) == 1)


def _pool_windows(response: Response) -> str | None:
    found = responses.pooling(response)
    if found and max(last for _, _, last in response.reach) == 0:
        return f"{found.size}, a single window"  # which shows no stride
    if found is None:
        return None if responses.farther_than_asked(response) else "uneven"
    return pool_windows(found.size, found.stride, found.pad)


def _pool_takes(response: Response) -> str | None:
    largest = responses.takes_largest(response)
    return None if largest is None else "the largest" if largest else "the average"


def _pool_rounds(response: Response) -> str | None:
    found = responses.pooling(response)
    return found.rounds if found else None


def _share(response: Response) -> str | None:
    found = responses.dropout(response)
    if found is None:
        return None
    lost, _ = found
    usual = round(lost * 20) / 20
    return f"{usual:.2g}" if abs(lost - usual) < 0.02 else f"{lost:.2f}"


def _scale(response: Response) -> str | None:
    found = responses.dropout(response)
    return found[1] or None if found else None
