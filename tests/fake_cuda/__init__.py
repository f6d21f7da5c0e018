"""Training steps traced on a CUDA device of which only shapes, dtypes and devices exist."""
