"""Causal attention of a step's tokens over K and V that live in blocks."""
