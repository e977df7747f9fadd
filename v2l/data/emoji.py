"""Emoji: pictures named by their code points, with the names and groups of emojibase-data's JSON files."""

from pathlib import Path

from pydantic import BaseModel

from v2l.configuration.dataset_entries import EmojiDataset
from v2l.configuration.registry import nearest
from v2l.data.drawn_splits import DrawnLayout
from v2l.data.json_files import damaged, read_json
from v2l.data.layout import Listed
from v2l.data.synsets import distinct_names
from v2l.errors import UserError


class Emoji(BaseModel):
    """An emoji without a skin tone; those in no group are letters that others are made of."""

    hexcode: str
    label: str
    group: int | None = None
    subgroup: int | None = None


class EmojiGroups(BaseModel):
    """Names of groups and subgroups by their numbers."""

    groups: dict[int, str]
    subgroups: dict[int, str]


class EmojiLayout(DrawnLayout[EmojiDataset]):
    """A class key is a subgroup, a caption an emoji's name. Emoji with a skin tone are left out: copies of one form."""

    def list_images(self) -> list[Listed]:
        """One image for each emoji that has a picture.

        Raises UserError for a JSON file that is missing or not of the format, an emoji of a group that `groups` lacks,
        and an excluded name that is no group's.
        """
        emoji = read_json(Path(self.dataset.names), list[Emoji])
        groups = read_json(Path(self.dataset.groups), EmojiGroups)
        self._check_excluded([*groups.groups.values(), *groups.subgroups.values()])
        pictures = {_plain(path.stem): path.name for path in sorted(self.root.glob("*.webp"))}
        listing = []
        for one in emoji:
            picture = pictures.get(_plain(one.hexcode))
            if picture is None or one.group is None:
                continue
            group, subgroup = groups.groups.get(one.group), groups.subgroups.get(one.subgroup)
            if group is None or subgroup is None:
                problem = f"{one.hexcode} is of group {one.group}, subgroup {one.subgroup}"
                raise damaged(Path(self.dataset.names), f"{problem}, which {self.dataset.groups} does not name")
            if not {group, subgroup} & set(self.dataset.exclude):
                listing.append(Listed(picture, subgroup, "", [one.label]))
        return listing

    def class_names(self, keys: list[str]) -> list[str]:
        """The subgroup's name with hyphens as spaces."""
        return distinct_names([[key.replace("-", " "), key, key] for key in keys])

    def _check_excluded(self, known: list[str]) -> None:
        for name in self.dataset.exclude:
            if name not in known:
                problem = f"`exclude` of the data set in {self.root} names {name!r}"
                raise UserError(problem, f"groups and subgroups of {self.dataset.groups}", nearest(name, known))


def _plain(hexcode: str) -> str:
    """Code points in lower case, without the selector of the coloured form (FE0F), which one list has, another not."""
    return "-".join(point for point in hexcode.lower().split("-") if point != "fe0f")
