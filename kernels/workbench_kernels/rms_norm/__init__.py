"""RMS norm (Zhang and Sennrich, 2019), alone or fused with the residual sum before it."""
