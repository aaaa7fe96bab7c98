"""Choosing tokens: penalties, and draws from a distribution that temperature, min_p, top_k and top_p have shaped."""
