"""Which draws rounding cannot change."""

import numpy as np

from workbench_kernels.sampling import reference


def near_a_border(logits: np.ndarray, uniform: float, settings: tuple[float, int, float, float]) -> bool:
    """True if rounding of the last bits decides which token it is."""
    moved = (min(max(uniform + step, 0.0), 1 - 2**-53) for step in (-1e-5, 1e-5))
    temperature, top_k, top_p, min_p = settings
    wider = ((temperature, top_k, min(top_p + step, 1.0), min(min_p * (1 + step), 1.0)) for step in (-1e-5, 1e-5))
    answers = {reference.draw(logits, number, *settings) for number in moved}
    answers |= {reference.draw(logits, uniform, *other) for other in wider if other[2] > 0}
    return len(answers) > 1
