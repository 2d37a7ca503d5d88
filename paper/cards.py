"""Published figures of some accelerators, from the GTX 580 that the paper trained on."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """``flops``: peak in float32 a second, without tensor cores. ``bandwidth``: bytes a second of its own memory.

    ``link``: bytes a second to the next card, in one direction.
    """

    name: str
    flops: float
    bandwidth: float
    gib: int
    link: float
    source: str

    @property
    def bytes(self) -> int:
        return self.gib * GIB


CARDS = (
    Card("GTX 580 3 GB", 1.581e12, 192.4e9, 3, 8e9, "NVIDIA, GTX 580 specifications; PCI Express 2.0 x16"),
    Card("GTX 1080 Ti", 11.34e12, 484e9, 11, 15.75e9, "NVIDIA, GTX 1080 Ti specifications; PCI Express 3.0 x16"),
    Card("V100 SXM2 16 GB", 15.7e12, 900e9, 16, 150e9, "NVIDIA, Tesla V100 data sheet; NVLink 2, half of 300 GB/s"),
    Card("A100 SXM 40 GB", 19.5e12, 1555e9, 40, 300e9, "NVIDIA, A100 data sheet; NVLink 3, half of 600 GB/s"),
    Card("H100 SXM 80 GB", 67e12, 3350e9, 80, 450e9, "NVIDIA, H100 data sheet; NVLink 4, half of 900 GB/s"),
)
