"""Checks of documents: structure by the model, meaning by a walk over it."""

from stigmer_dsl.validation.examination import examine
from stigmer_dsl.validation.findings import Finding

__all__ = ["Finding", "examine"]
