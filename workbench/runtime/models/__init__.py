"""The models: one lean decoder for Llama-like families, and transformers' own modules for everything else."""
