"""Data sets that come without splits: theirs are drawn with the experiment's seed."""

from collections import Counter
from dataclasses import replace
from typing import TypeVar

from v2l.configuration.dataset_entries import DrawnDataset
from v2l.data.layout import Layout, Listed
from v2l.errors import UserError
from v2l.runtime import rng

E = TypeVar("E", bound=DrawnDataset)


class DrawnLayout(Layout[E]):
    """A layout whose images are listed with an empty split; those that have one keep it."""

    def divide(self, readable: list[Listed], name: str, seed: int) -> list[Listed]:
        """Images of the classes that have `min_images` readable ones, their splits drawn.

        Raises UserError if there is no such class.
        """
        fixed, drawn = [item for item in readable if item.split], [item for item in readable if not item.split]
        counts = Counter(item.key for item in drawn)
        kept = [item for item in drawn if counts[item.key] >= self.dataset.min_images]
        if not kept:
            problem = f"data set {name}: no class has datasets.{name}.min_images = {self.dataset.min_images} images"
            largest = ", ".join(f"{key}: {count}" for key, count in counts.most_common(3)) or "none"
            remedy = "lower min_images, or correct root and exclude"
            raise UserError(problem, f"at least one such class (largest here: {largest})", remedy)
        splits = draw_splits(kept, self.dataset.train_share, seed)
        return fixed + [replace(item, split=split) for item, split in zip(kept, splits, strict=True)]


def draw_splits(images: list[Listed], train_share: float, seed: int) -> list[str]:
    """`train` or `val` for each image: train_share of each class, rounded, but always one image in `val`."""
    members: dict[str, list[str]] = {}
    for item in images:
        members.setdefault(item.key, []).append(item.image_id)
    train: set[str] = set()
    for key, image_ids in members.items():
        count = min(round(train_share * len(image_ids)), len(image_ids) - 1)
        chosen = rng(seed, "split", key).permutation(len(image_ids))[:count]
        train.update(image_ids[index] for index in chosen)
    return ["train" if item.image_id in train else "val" for item in images]
