"""An ONNX file run by onnxruntime, to see that a model made of its weights computes what it does."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line
from protocol.exchange.foreign import Input
from protocol.exchange.model import Model
from protocol.exchange.onnx_graph import write_onnx

CLOSE = 1e-3  # of the largest output: two ways through the same float32 numbers part by far less


def outputs(path: Path, images: np.ndarray) -> list[np.ndarray]:
    """What an ONNX file makes of ``images`` (N, 3, rows, columns).

    Raises:
        Misuse: onnxruntime does not run it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        return [np.asarray(found) for found in session.run(None, {given.name: images})]
    # onnxruntime's errors have no class of their own that it names.
    except Exception as error:
        raise Misuse(f"{path} cannot be run by onnxruntime ({one_line(error)})") from None


def computes_the_same(path: Path, own: Input, model: Model, *, in_graph: bool) -> bool:
    """Whether ``model`` makes of an image what the file at ``path`` does; ``in_graph``: that takes off its mean itself.

    Raises:
        Misuse: onnxruntime does not run the file.
    """
    shape = (1, *model.spec.network().input_shape)
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    mean = own.mean[:, None, None] if own.mean.ndim == 1 else own.mean
    given = image if in_graph else image - mean
    given = given / own.deviation[:, None, None]
    if own.channels == "bgr":
        given = given[:, ::-1]
    found = outputs(path, np.ascontiguousarray(given, np.float32))[0].reshape(-1)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Path(folder, "own.onnx"), model)
        ours = [value.reshape(-1)[: len(found)] for value in outputs(Path(folder, "own.onnx"), image)]
    # Logits, or probabilities.
    return any(np.abs(value - found).max() <= CLOSE * max(1e-6, np.abs(found).max()) for value in ours)
