"""How a model's weights are stored."""

from typing import NamedTuple


class WeightRow(NamedTuple):
    """One matrix, or several of a kind. stored_as: "float32", "int8", ...; note: why, where that is not obvious."""

    name: str
    shape: tuple[int, ...]
    stored_as: str
    bytes: int
    note: str = ""
    bias_bytes: int = 0  # of `bytes`
    quantizable: bool = False
