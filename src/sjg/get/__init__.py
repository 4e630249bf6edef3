"""Results as tidy tables."""

from sjg.get._gene_importance import gene_importance

__all__ = ["gene_importance"]
