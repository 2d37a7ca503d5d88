"""How long training takes: 90 passes over 1.2 million images (section 5), in five to six days (section 1)."""

from paper.architecture import network
from paper.cards import CARDS
from paper.cost import train_flops
from paper.recipe import PRESETS

CYCLES, IMAGES = 90, 1_200_000
PAPER_DAYS = (5, 6)
GTX_580 = CARDS[0]  # the paper's; two of them
SECONDS_PER_DAY = 86_400


def days(images_per_second: float) -> float:
    return CYCLES * IMAGES / images_per_second / SECONDS_PER_DAY


def needed_speed(paper_days: float) -> float:
    """Images a second that training in ``paper_days`` takes."""
    return CYCLES * IMAGES / (paper_days * SECONDS_PER_DAY)


def needed_share_of_peak(paper_days: float) -> float:
    """Share of two GTX 580s' peak that training in ``paper_days`` keeps busy (modelled)."""
    flops = train_flops(network("two_column", PRESETS["paper"])) * CYCLES * IMAGES
    return flops / (paper_days * SECONDS_PER_DAY) / (2 * GTX_580.flops)
