"""Names of the keys that sjg reads and writes."""

from __future__ import annotations

#: default prefix of every output (``key_added``)
DEFAULT_KEY = "sjg"
#: column of the table that holds the label id
INSTANCE_KEY = "cell_id"
#: column of the table that holds the name of the annotated element
REGION_KEY = "region"


def labels_key(key_added: str) -> str:
    """Name of the labels element of a run."""
    return f"{key_added}_cells"


def shapes_key(key_added: str) -> str:
    """Name of the shapes element of a run."""
    return f"{key_added}_boundaries"


def table_key(key_added: str) -> str:
    """Name of the table of a run."""
    return f"{key_added}_table"


def cell_id_column(key_added: str) -> str:
    """Column of the points that holds the cell of each transcript (0 = none)."""
    return f"{key_added}_cell_id"


def confidence_column(key_added: str) -> str:
    """Column of the points that holds the posterior of that cell."""
    return f"{key_added}_confidence"
