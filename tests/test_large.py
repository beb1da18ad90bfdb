"Large photographs: what is painted is computed in a window around the mask, and is what the whole picture would give."

import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from defect_lora.data.cables import render_cable
from defect_lora.data.files import file_sha256
from defect_lora.generation import painting, placement


def photograph(size, grey=False):
    "An image of this width and height, its mask, and what latents show with and without a defect."
    image, mask = render_cable("bent_wire", 3, size=256)
    mask = Image.fromarray(np.uint8(255) * (np.asarray(mask) > 0)).resize(size)
    image, chance = image.convert("L" if grey else "RGB").convert("RGB").resize(size, Image.BICUBIC), np.random.default_rng(0)
    was = chance.uniform(0, 255, (256, 256, 3)).astype(np.float32)
    return image, np.asarray(mask) > 127, np.clip(was + chance.normal(0, 60, was.shape), 0, 255).astype(np.float32), was


@pytest.mark.parametrize("size", [(256, 256), (300, 300), (640, 480), (333, 777)])
@pytest.mark.parametrize("grey", [False, True])
def test_a_window_gives_what_the_whole_picture_gives(size, grey, monkeypatch):
    given = photograph(size, grey)
    windowed = painting._blend_change(*given)
    monkeypatch.setattr(painting, "mask_window", lambda mask, margin: tuple(slice(0, n) for n in mask.shape))
    whole = painting._blend_change(*given)
    differ = np.abs(np.asarray(windowed.image, int) - np.asarray(whole.image, int))
    assert differ.max() <= 1 and (differ > 0).mean() < 1e-3  # of rounding, where latents are enlarged
    assert windowed.mask.any() and (windowed.mask != whole.mask).mean() < 1e-3  # pixels where a change is just about the threshold
    outside = ~given[1]
    assert (np.asarray(windowed.image)[outside] == np.asarray(given[0])[outside]).all()


@pytest.mark.parametrize(
    "edge", [(slice(0, 9), slice(0, 9)), (slice(90, 100), slice(40, 60)), (slice(0, 100), slice(0, 100)), (slice(0, 0), slice(0, 0))]
)
def test_a_dilated_mask_is_what_the_whole_picture_gives(edge):
    from scipy import ndimage

    mask = np.zeros((100, 100), bool)
    mask[edge] = True
    far = ndimage.distance_transform_edt(~mask) > 1.5 if mask.any() else ~mask
    assert (placement.dilate_mask(mask) == ~far).all()


def test_a_large_photograph_takes_little():
    given = photograph((4000, 4000))
    tracemalloc.start()
    start = time.perf_counter()
    painting._blend_change(*given)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 6 and peak < 500 * 2**20  # it was 9 s and 2.1 GB


def test_what_is_kept_is_bounded_in_bytes(tmp_path, monkeypatch):
    import torch

    good = []
    for i in range(4):
        good.append(tmp_path / f"{i}.png")
        Image.new("RGB", (100, 100), (i,) * 3).save(good[-1])
    opened = []
    monkeypatch.setattr(painting, "encode_photograph", lambda pipe, image: opened.append(image) or torch.zeros(4, 8, 8))
    painter = painting._PairPainter(None, {file_sha256(path)[:16]: path for path in good}, None)
    painter.KEPT = 2 * 31_100  # two photographs and their latents
    digests = list(painter.good)
    for digest in [*digests[:2], *digests[:2]]:
        painter.photograph(digest)
    assert len(opened) == 2
    for digest in digests:
        painter.photograph(digest)
    assert len(opened) == 4 and list(painter.kept) == digests[2:]
    painter.KEPT = 10
    painter.photograph(digests[0])
    assert list(painter.kept) == digests[:1]  # the one in use
