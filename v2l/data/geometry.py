"""What a tokenizer sees of an image, and the map of tokens that it makes of it."""

from pydantic import Field

from v2l.configuration.entry import Entry
from v2l.configuration.tokenizer_training import Network
from v2l.configuration.variants import map_side


class Geometry(Entry):
    """What a tokenizer sees of an image, and how many local tokens it makes of it."""

    image_size: int = Field(description="Side of the square image in pixels.")
    resize_via: int | None = Field(description="First resized and cropped to this side; null: directly.")
    grid: int = Field(description="Side of the square map of local tokens.")


def network_geometry(network: Network) -> Geometry:
    """Image and token map of a convolutional tokenizer with this network."""
    return Geometry(image_size=network.image_size, resize_via=network.resize_via, grid=map_side(network))
