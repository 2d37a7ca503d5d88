"""Published figures of some accelerators, from the GTX 580 that the paper trained on.

The headline figures follow from others that are published apart from them: cores and their clock, pins of the memory
and their rate, lanes of the link and theirs. A test does that arithmetic.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """``flops``: peak in float32 a second, without tensor cores. ``bandwidth``: bytes a second of its own memory.

    ``link``: bytes a second to the next card, in one direction. ``cores`` do a multiplication and an addition in a
    cycle of ``clock`` (boost, Hz); ``memory``: pins, and bits a second of each; ``lanes``: how many, and bytes a second
    of each, in one direction.
    """

    name: str
    flops: float
    bandwidth: float
    gib: int
    link: float
    cores: int
    clock: float
    memory: tuple[int, float]
    lanes: tuple[int, float]
    source: str

    @property
    def bytes(self) -> int:
        return self.gib * GIB


PCIE_2 = 5e9 * 8 / 10 / 8  # bytes a second of a lane: 8 bits travel as 10
PCIE_3 = 8e9 * 128 / 130 / 8
NVLINK = 25e9  # of each link, from the second version on

CARDS = (
    Card(
        "GTX 580 3 GB",
        *(1.581e12, 192.4e9, 3, 8e9),
        *(512, 1.544e9, (384, 4.008e9), (16, PCIE_2)),
        "NVIDIA, GeForce GTX 580 specifications; PCI Express 2.0 x16",
    ),
    Card(
        "GTX 1080 Ti",
        *(11.34e12, 484e9, 11, 15.75e9),
        *(3584, 1.582e9, (352, 11e9), (16, PCIE_3)),
        "NVIDIA, GeForce GTX 1080 Ti specifications; PCI Express 3.0 x16",
    ),
    Card(
        "V100 SXM2 16 GB",
        *(15.7e12, 900e9, 16, 150e9),
        *(5120, 1.53e9, (4096, 1.754e9), (6, NVLINK)),
        "NVIDIA, Tesla V100 data sheet and Volta white paper; NVLink 2",
    ),
    Card(
        "A100 SXM 40 GB",
        *(19.5e12, 1555e9, 40, 300e9),
        *(6912, 1.41e9, (5120, 2.43e9), (12, NVLINK)),
        "NVIDIA, A100 data sheet and Ampere white paper; NVLink 3",
    ),
    Card(
        "H100 SXM 80 GB",
        *(67e12, 3350e9, 80, 450e9),
        *(16896, 1.98e9, (5120, 5.234e9), (18, NVLINK)),
        "NVIDIA, H100 data sheet and Hopper white paper; NVLink 4",
    ),
)
