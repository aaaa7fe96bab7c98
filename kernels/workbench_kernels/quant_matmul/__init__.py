"""Products of activations with weights that are stored in 8 or 4 bits; packing.py says how they are stored."""
