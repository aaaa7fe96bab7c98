"""Gated activations: act(gate) * up, where gate and up are the two halves of one fused projection."""
