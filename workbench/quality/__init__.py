"""How much a model's answers change when its weights or its KV cache are stored with fewer bits."""
