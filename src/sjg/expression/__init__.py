"""What cells express, by a reference and by what a tissue shows; arrays only."""

from sjg.expression._deviation import Deviation, type_deviation
from sjg.expression._efficiency import Efficiency, gene_efficiency
from sjg.expression._fit import Fitted, as_probabilities, fit_profiles, usual_composition

__all__ = [
    "Deviation",
    "Efficiency",
    "Fitted",
    "as_probabilities",
    "fit_profiles",
    "gene_efficiency",
    "type_deviation",
    "usual_composition",
]
