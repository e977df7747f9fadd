"""Augmented training images: drawn from seed, epoch and image alone, whatever came before and wherever."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from v2l.data.geometry import Geometry
from v2l.data.manifest import SCHEMA, Manifest
from v2l.io.storage import write_parquet
from v2l.training import training_images
from v2l.training.batch_order import BatchOrder
from v2l.training.training_images import TrainingImages, loader, random_resized_crop

GEOMETRY = Geometry(image_size=12, resize_via=None, grid=3)
IMAGES = 6
SIZES = [(40 + number, 30) for number in range(IMAGES)]


def ramp(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row (0..255), blue the half."""
    column, row = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([column, row, np.full_like(row, 128)], axis=2).round().astype(np.uint8))


def manifest(folder, fit: str, sizes: Sequence[tuple[int, int]] = SIZES) -> Manifest:
    names = [f"{number}.png" for number in range(IMAGES)]
    for name, size in zip(names, sizes, strict=True):
        ramp(*size).save(folder / name)
    rows = [(name, "train", 0, "a", [], [], *size) for name, size in zip(names, sizes, strict=True)]
    table = pa.table([pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), SCHEMA, strict=True)], SCHEMA)
    metadata = {"dataset": {"name": "ramps", "root": str(folder), "fit": fit, "classes": ["a"]}}
    write_parquet(folder / "manifest.parquet", table, {}, metadata)
    return Manifest.read(folder / "manifest.parquet")


@settings(deadline=None, max_examples=25)
@given(st.integers(30, 90), st.integers(30, 90), st.integers(0, 5), st.integers(0, 50))
def test_crops_are_parts_of_the_image_with_area_and_aspect_in_range(width, height, epoch, index):
    crop = np.asarray(random_resized_crop(ramp(width, height), 64, 0, epoch, index)).astype(float)
    assert crop.shape == (64, 64, 3)
    slope = np.diff(crop, axis=1)[:, :, 0].mean()
    columns = abs(crop[:, -4, 0] - crop[:, 3, 0]).mean() / 56 * 64 / 255 * width
    rows = abs(crop[-4, :, 1] - crop[3, :, 1]).mean() / 56 * 64 / 255 * height
    share, aspect = columns * rows / (width * height), columns / rows
    assert 0.2 * 0.85 <= share <= 1.1
    fallback = not 3 / 4 <= width / height <= 4 / 3  # a long image may have no part that is large and square enough
    assert fallback or 3 / 4 * 0.85 <= aspect <= 4 / 3 / 0.85
    again = np.asarray(random_resized_crop(ramp(width, height), 64, 0, epoch, index))
    assert np.array_equal(crop, again) and slope != 0


def test_half_of_the_crops_are_flipped_and_areas_spread():
    crops = [np.asarray(random_resized_crop(ramp(60, 60), 16, 3, 0, index)).astype(int) for index in range(200)]
    flipped = np.mean([crop[:, 0, 0].mean() > crop[:, -1, 0].mean() for crop in crops])
    assert 0.38 < flipped < 0.62
    shares = [abs(c[0, 0, 0] - c[0, -1, 0]) * abs(c[0, 0, 1] - c[-1, 0, 1]) / 255**2 for c in crops]
    assert min(shares) < 0.3 and max(shares) > 0.75 and 0.45 < np.mean(shares) < 0.65


def test_a_draw_leaves_the_global_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_resized_crop(ramp(40, 40), 16, 0, 0, 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_images_differ_by_epoch_and_not_by_order(tmp_path, fit):
    images = TrainingImages(manifest(tmp_path, fit), np.arange(IMAGES), GEOMETRY, "random-resized-crop", seed=1)
    assert not images.tensors and len(images.squares) == len(images) == IMAGES
    first = [images[place] for place in range(3 * IMAGES)]
    assert [index for _, index in first] == list(range(IMAGES)) * 3
    again = {place: images[place][0] for place in reversed(range(3 * IMAGES))}
    assert all(torch.equal(image, again[place]) for place, (image, _) in enumerate(first))
    assert all(not torch.equal(first[i][0], first[i + IMAGES][0]) for i in range(IMAGES))
    other = TrainingImages(images.manifest, np.arange(IMAGES), GEOMETRY, "random-resized-crop", seed=2)
    assert any(not torch.equal(other[i][0], first[i][0]) for i in range(IMAGES))
    plain = TrainingImages(images.manifest, np.arange(IMAGES), GEOMETRY)
    assert plain.tensors and all(torch.equal(plain[i + IMAGES][0], images.plain(i)) for i in range(IMAGES))
    if fit == "pad":  # white margins above and below belong to the image
        assert any((image[:, 0] == 255).all() or (image[:, -1] == 255).all() for image, _ in first)


def test_crops_are_the_same_whether_their_images_are_kept_or_not(tmp_path, monkeypatch):
    kept = TrainingImages(manifest(tmp_path, "pad"), np.arange(IMAGES), GEOMETRY, "random-resized-crop", seed=1)
    monkeypatch.setattr(training_images, "CACHE_BYTES", 0)
    read = TrainingImages(kept.manifest, np.arange(IMAGES), GEOMETRY, "random-resized-crop", seed=1)
    assert kept.squares and not read.squares
    assert all(torch.equal(kept[place][0], read[place][0]) for place in range(2 * IMAGES))


@pytest.mark.parametrize(("fit", "pixels"), [("crop", 5 * 40 * 30 + 400 * 300), ("pad", 5 * 40 * 40 + 400 * 400)])
def test_images_of_all_sizes_decide_whether_they_are_kept(tmp_path, monkeypatch, fit, pixels):
    """Not the first one's, which is the smallest here."""
    sizes = [(40, 30)] * (IMAGES - 1) + [(400, 300)]
    listing = manifest(tmp_path, fit, sizes)
    for limit, is_kept in [(3 * pixels, False), (3 * pixels + 1, True)]:
        monkeypatch.setattr(training_images, "CACHE_BYTES", limit)
        images = TrainingImages(listing, np.arange(IMAGES), GEOMETRY, "random-resized-crop", seed=1)
        assert bool(images.squares) == is_kept


def test_half_of_the_images_are_flipped_by_seed_epoch_and_image(tmp_path):
    images = TrainingImages(manifest(tmp_path, "crop"), np.arange(IMAGES), GEOMETRY, "flip", seed=1)
    seen = [images[place][0] for place in range(20 * IMAGES)]
    plain = [images.plain(place % IMAGES) for place in range(20 * IMAGES)]
    is_flipped = [not torch.equal(*pair) for pair in zip(seen, plain, strict=True)]
    assert 0.35 < np.mean(is_flipped) < 0.65
    assert all(
        torch.equal(found.flip(2), image) for found, image, is_ in zip(seen, plain, is_flipped, strict=True) if is_
    )
    assert all(torch.equal(images[place][0], seen[place]) for place in (3, 3 * IMAGES + 1))


def test_workers_and_ranks_see_the_same_images(tmp_path):
    images = TrainingImages(manifest(tmp_path, "crop"), np.arange(IMAGES), GEOMETRY, "random-resized-crop", seed=1)
    whole = [pixels for pixels, _ in loader(images, BatchOrder(0, IMAGES, 4, 0, 4), 2)]
    resumed = [pixels for pixels, _ in loader(images, BatchOrder(0, IMAGES, 4, 2, 4), 2)]
    assert all(torch.equal(*pair) for pair in zip(whole[2:], resumed, strict=True))
    ranks = [[pixels for pixels, _ in loader(images, BatchOrder(0, IMAGES, 4, 0, 4, rank, 2), 2)] for rank in (0, 1)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), batch)
