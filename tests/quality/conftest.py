"""The random models."""

from model_fixtures import random_model

__all__ = ["random_model"]
