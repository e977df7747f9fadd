"""Emoji: pictures named by their code points, with the names and groups of emojibase-data's JSON files."""

from pathlib import Path

from pydantic import BaseModel

from v2l.configuration.dataset_entries import EmojiDataset
from v2l.configuration.registry import nearest
from v2l.data.annotation_files import Line
from v2l.data.drawn_splits import DrawnLayout
from v2l.data.json_files import not_as_distributed, read_dataset_json
from v2l.data.layout import Listed
from v2l.data.synsets import distinct_names
from v2l.errors import UserError


class Form(BaseModel):
    """One picture's code points and name."""

    hexcode: str
    label: Line


class Emoji(Form):
    """An emoji without a skin tone, and its forms with one; those in no group are letters that others are made of."""

    group: int | None = None
    subgroup: int | None = None
    skins: list[Form] = []


class EmojiGroups(BaseModel):
    """Names of groups and subgroups by their numbers."""

    groups: dict[int, str]
    subgroups: dict[int, str]


class EmojiLayout(DrawnLayout[EmojiDataset]):
    """A class key is a subgroup, a caption an emoji's name. Skin tones, copies of one form, are `further` alone."""

    def list_images(self) -> list[Listed]:
        """One image for each emoji that has a picture.

        Raises UserError for a JSON file that is missing or not of the format, an emoji of a group that `groups` lacks,
        and a name in `exclude` or `further` that is no group's.
        """
        emoji = read_dataset_json(Path(self.dataset.names), list[Emoji])
        groups = read_dataset_json(Path(self.dataset.groups), EmojiGroups)
        self._check_names([*groups.groups.values(), *groups.subgroups.values()])
        pictures = {_plain(path.stem): path.name for path in sorted(self.root.glob("*.webp"))}
        listing = []
        for one in emoji:
            if one.group is None or one.subgroup is None:
                continue
            group, subgroup = groups.groups.get(one.group), groups.subgroups.get(one.subgroup)
            if group is None or subgroup is None:
                problem = f"{one.hexcode} is of group {one.group}, subgroup {one.subgroup}"
                raise not_as_distributed(
                    Path(self.dataset.names), f"{problem}, which {self.dataset.groups} does not name"
                )
            if {group, subgroup} & set(self.dataset.exclude):
                continue
            is_further = bool({group, subgroup} & set(self.dataset.further))
            for form in [one, *one.skins] if is_further else [one]:
                if picture := pictures.get(_plain(form.hexcode)):
                    listing.append(Listed(picture, subgroup, "further" if is_further else "", [form.label]))
        return listing

    def why_left_out(self, name: str) -> str:
        """One rule for all: which emoji are taken."""
        return "a picture of no emoji in the list, of one that is left out (`exclude`, `min_images`), or a skin tone's"

    def class_names(self, keys: list[str]) -> list[str]:
        """The subgroup's name with hyphens as spaces."""
        return distinct_names([[key.replace("-", " "), key, key] for key in keys])

    def _check_names(self, known: list[str]) -> None:
        for key in ("exclude", "further"):
            for name in getattr(self.dataset, key):
                if name in known:
                    continue
                problem = f"`{key}` of the data set in {self.root} names {name!r}"
                raise UserError(problem, f"groups and subgroups of {self.dataset.groups}", nearest(name, known))


def _plain(hexcode: str) -> str:
    """Code points in lower case, without the selector of the coloured form (FE0F), which one list has, another not."""
    return "-".join(point for point in hexcode.lower().split("-") if point != "fe0f")
