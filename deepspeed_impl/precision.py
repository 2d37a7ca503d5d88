"""fp32 means fp32: no product and no convolution rounds its operands, on any device, unless TF32 is asked for."""

import torch


def settle(precision: str) -> str:
    """Switch every silent rounding of float32 operands off, or on for ``tf32``; say what holds, as records have it.

    On a GPU matrix products and convolutions have switches of their own: torch's matmul precision leaves cuDNN's
    convolutions in TF32, whose operands have ten bits after the point. On a processor oneDNN's is set where the package
    is imported.
    """
    rounds = precision == "tf32"
    torch.set_float32_matmul_precision("high" if rounds else "highest")
    torch.backends.cuda.matmul.allow_tf32 = rounds
    torch.backends.cudnn.allow_tf32 = rounds
    return description()


def description() -> str:
    """What float32 arithmetic is in this process."""
    rounded = [
        name
        for name, allowed in (
            ("products", torch.get_float32_matmul_precision() != "highest" or torch.backends.cuda.matmul.allow_tf32),
            ("convolutions", torch.backends.cudnn.allow_tf32),
        )
        if allowed
    ]
    return f"{' and '.join(rounded)} may be TF32" if rounded else "strict"
