"""A kind of data set: a CSV file with columns file, label and split lists the images below `root`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from v2l.configuration.dataset_entries import DATASET_KINDS, Dataset
from v2l.configuration.entry import UserFile
from v2l.data.csv_lists import read_csv
from v2l.data.layout import Layout, Listed


class CsvDataset(Dataset):
    """Pictures that a CSV file lists; its labels are the names of the classes."""

    implementation: ClassVar[str] = f"{__name__}:CsvLayout"

    kind: Literal["csv"]
    table: UserFile = Field(description="CSV with columns file (below root), label and split.")


class CsvLayout(Layout[CsvDataset]):
    """A class key is a label, and so is the class's name."""

    def list_images(self) -> list[Listed]:
        rows = read_csv(Path(self.dataset.table), ["file", "label", "split"])
        return [Listed(file, label, split) for file, label, split in rows]


DATASET_KINDS.add("csv", CsvDataset)
