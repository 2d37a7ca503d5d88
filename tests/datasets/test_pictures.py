"""A file's bytes become the picture that is stored, whatever decodes them."""

import io
import resource

import numpy as np
import pytest
from PIL import Image

from protocol.datasets.pictures import Unreadable, centre, picture
from tests.support.archives import encoded

EDGE = 256


def scaled_and_cut(image: Image.Image) -> np.ndarray:
    """What :func:`centre` must come to: the whole image scaled, then its middle cut out."""
    scale = EDGE / min(image.size)
    whole = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (whole.width - EDGE) // 2, (whole.height - EDGE) // 2
    return np.asarray(whole.crop((left, top, left + EDGE, top + EDGE))).astype(int)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    return noise(9, 7).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(500, 375), (256, 300), (90, 120), (1000, 257)])
def test_scaling_the_middle_alone_is_scaling_all_and_cutting_the_middle_out(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert np.abs(np.asarray(centre(image, EDGE)).astype(int) - scaled_and_cut(image)).max() <= 1


@pytest.mark.parametrize("size", [(500, 375), (256, 256), (120, 90), (1300, 1100), (3000, 1200)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_decoder_comes_to_the_same_picture(size: tuple[int, int], kind: str) -> None:
    """JPEGs of twice the edge and more are decoded at half their size, which is another way of scaling them."""
    image = smooth(*size)
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    found, unusual = picture(encoded(image, kind, **options), EDGE)
    assert found.shape == (EDGE, EDGE, 3)
    assert np.abs(found.astype(int) - scaled_and_cut(image)).mean() < 1.5
    assert unusual == ("" if kind == "JPEG" else "it is a PNG")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(300, 300), (500, 400)])
def test_a_picture_that_lies_on_its_side_is_turned_upright(orientation: int, size: tuple[int, int]) -> None:
    upright = smooth(*size)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what undoes each turn, as Pillow numbers them
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found, unusual = picture(encoded(stored, exif=exif, quality=95), EDGE)
    assert np.abs(found.astype(int) - scaled_and_cut(upright)).mean() < 2
    assert unusual == ("" if orientation == 1 else "turned upright")


def test_a_long_strip_takes_no_more_memory_than_it_has() -> None:
    """Scaled as a whole, a picture of 1 x 65,500 would have 4 billion pixels."""
    strip = encoded(Image.new("RGB", (1, 65_500), (200, 100, 50)), quality=95)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, _ = picture(strip, EDGE)
    assert np.abs(found.reshape(-1, 3).mean(axis=0) - (200, 100, 50)).max() < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.linspace(0, 65_535, 300 * 300).reshape(300, 300).astype(np.uint16)
    found, _ = picture(encoded(Image.fromarray(ramp), "PNG"), EDGE)
    assert 100 < found.mean() < 155
    assert (found == 255).mean() < 0.01


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1"])
def test_every_kind_of_colours_becomes_red_green_and_blue(mode: str) -> None:
    image = Image.new("RGB", (300, 280), (102, 102, 102)).convert(mode)
    kind = "JPEG" if mode in ("L", "CMYK") else "PNG"
    found, unusual = picture(encoded(image, kind), EDGE)
    assert mode == "1" or np.abs(found.astype(int) - 102).max() < 4
    assert f"its colours are {mode}" in unusual


@pytest.mark.parametrize("whole", [encoded(noise(300, 300), "JPEG"), encoded(noise(300, 300), "PNG")])
def test_what_is_cut_short_anywhere_is_unreadable_and_never_half_a_picture(whole: bytes) -> None:
    for end in (*range(0, 700, 23), len(whole) // 2, len(whole) - 200):
        with pytest.raises(Unreadable):
            picture(whole[:end], EDGE)


def test_damaged_bytes_are_a_picture_or_unreadable() -> None:
    random = np.random.default_rng(4)
    for kind in ("JPEG", "PNG", "BMP", "WEBP"):
        file = io.BytesIO()
        smooth(300, 280).save(file, kind)
        for _ in range(60):
            data = bytearray(file.getvalue())
            for place in random.integers(0, len(data), 6):
                data[place] = random.integers(0, 256)
            try:
                found, _ = picture(bytes(data), EDGE)
            except Unreadable:
                continue
            assert found.shape == (EDGE, EDGE, 3)
