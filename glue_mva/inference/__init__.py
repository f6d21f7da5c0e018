"""A fine-tuned classifier labels texts: `texts` reads and writes them, `classifier` is the model.

Knows the ground, `config`, `data` and `models`; `texts` imports no torch.
"""
