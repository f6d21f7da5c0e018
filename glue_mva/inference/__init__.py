"""A fine-tuned classifier labels texts: `texts` reads and writes them, `classifier` is the model.

Knows the ground, `config`, `data`, `models` and, of `training`, the device; `texts` imports no torch.
"""
