import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from v2l.configuration.config import Corruption
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.tokenizer_training import Network
from v2l.data.geometry import network_geometry
from v2l.tasks.corruptions import blur_sigma
from v2l.tasks.image_corruption import corrupted, mask_positions

NETWORK = Network(image_size=16, resize_via=None, channel_multipliers=[1, 1, 1])  # 4x4 tokens of 4x4 pixels
CORRUPTION = Corruption()


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8))


def apply(image, task, corruption=CORRUPTION, fit="crop", network=NETWORK, seed=0, image_id="a.png"):
    return np.asarray(corrupted(image, task, network_geometry(network), fit, corruption, seed, image_id))


def test_none_is_the_tokenizer_image():
    image = picture(16, 16)
    assert np.array_equal(apply(image, "none"), np.asarray(image))


def test_inpainting_and_outpainting_grey_the_masked_tokens():
    image = picture(16, 16)
    expected = np.array(image)
    expected[4:12, 4:12] = 128
    assert np.array_equal(apply(image, "inpainting"), expected)
    expected = np.array(image)
    expected[8:, :] = 128
    assert np.array_equal(apply(image, "outpainting"), expected)


@pytest.mark.parametrize("size", [16, 31, 40])
@pytest.mark.parametrize("task", ["inpainting", "outpainting"])
def test_grey_pixels_are_those_of_the_masked_positions(task, size):
    network = Network(image_size=size, resize_via=None, channel_multipliers=[1, 1, 1])
    grey = (apply(Image.new("RGB", (size, size), (9, 9, 9)), task, network=network) == 128).all(axis=-1)
    grid = network_geometry(network).grid
    positions = mask_positions(task, (grid, grid))
    assert grey.sum() == len(positions) * 16
    rows, columns = np.divmod(positions, grid)
    assert grey[rows * 4, columns * 4].all() and grey[rows * 4 + 3, columns * 4 + 3].all()


def test_rotation_is_counter_clockwise():
    image = Image.new("RGB", (16, 16), (0, 0, 0))
    image.putpixel((15, 0), (255, 0, 0))  # top right goes to top left
    rotated = apply(image, "rotation")
    assert rotated[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(rotated, np.rot90(np.asarray(image)))


def test_corner_crop_takes_the_bottom_right():
    image = picture(24, 16)
    pixels = np.asarray(image)
    assert np.array_equal(apply(image, "none"), pixels[:, 4:20])
    assert np.array_equal(apply(image, "shift"), pixels[:, 8:24])
    tall = picture(16, 21)
    assert np.array_equal(apply(tall, "shift"), np.asarray(tall)[5:])


def test_corner_crop_resizes_as_the_tokenizer_image():
    network = NETWORK.model_copy(update={"resize_via": 32})
    image = picture(48, 32)
    right = image.crop((16, 0, 48, 32)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(apply(image, "shift", network=network), np.asarray(right))


@pytest.mark.parametrize(("size", "fit"), [((20, 20), "crop"), ((30, 20), "pad")])
def test_corner_crop_does_not_move_square_images(size, fit):
    image = picture(*size)
    assert np.array_equal(apply(image, "shift", fit=fit), apply(image, "none", fit=fit))


def test_translation_fills_with_white():
    image = picture(16, 16)
    shifted = apply(image, "shift", Corruption(shift="translate", shift_share=0.25))
    assert np.array_equal(shifted[4:, 4:], np.asarray(image)[:12, :12])
    assert (shifted[:4] == 255).all() and (shifted[:, :4] == 255).all()


def test_blur_golden():
    image = Image.new("RGB", (16, 16), (0, 0, 0))
    image.putpixel((8, 8), (255, 255, 255))
    blurred = apply(image, "deblurring", Corruption(blur_kernels=[5]))[:, :, 0]
    distance = np.arange(-2, 3)
    weights = np.exp(-0.5 * (distance / 1.1) ** 2)  # sigma of side 5 by OpenCV's rule
    weights /= weights.sum()
    assert np.abs(blurred[6:11, 6:11] - 255 * np.outer(weights, weights)).max() <= 0.5
    assert blurred[8, 8] == 35 and blurred.astype(int).sum() == blurred[6:11, 6:11].astype(int).sum()


def test_blur_sigma():
    assert [round(blur_sigma(kernel, CORRUPTION), 6) for kernel in (5, 7, 9, 11)] == [1.1, 1.4, 1.7, 2.0]
    assert blur_sigma(5, Corruption(blur_sigma=3.0)) == 3.0


def test_every_kernel_is_drawn():
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    image.putpixel((16, 16), (255, 255, 255))
    network = Network(image_size=32, resize_via=None, channel_multipliers=[1, 1])
    corruption = Corruption(blur_sigma=50.0)  # nearly a box: the blurred spot is as wide as the kernel
    blurred = [apply(image, "deblurring", corruption, network=network, image_id=f"{i}.png") for i in range(40)]
    assert {int((pixels[16, :, 0] > 0).sum()) for pixels in blurred} == {5, 7, 9, 11}


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(8, 60),
    height=st.integers(8, 60),
    task=st.sampled_from(["none", *RESTORATION_TASKS]),
    fit=st.sampled_from(["crop", "pad"]),
    shift=st.sampled_from(["corner-crop", "translate"]),
    via=st.sampled_from([None, 24]),
)
def test_every_corruption_is_square_and_repeatable(width, height, task, fit, shift, via):
    network = NETWORK.model_copy(update={"resize_via": via})
    image, corruption = picture(width, height), Corruption(shift=shift)
    first = apply(image, task, corruption, fit, network)
    assert first.shape == (16, 16, 3) and first.dtype == np.uint8
    assert np.array_equal(first, apply(image, task, corruption, fit, network))
