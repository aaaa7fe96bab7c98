"""Runs plans on a model: loading, the KV pool's memory, inputs, the forward, sampling. The only layer with torch."""
