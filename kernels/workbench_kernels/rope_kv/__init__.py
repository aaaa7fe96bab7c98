"""Rotary position embedding of fresh queries and keys, with the keys and values written to their KV slots."""
