"""Implementations of the update: a for-loop over tensors, lists of tensors (foreach), C on a CPU, Triton on CUDA.

All compute what `update` of the optimizer's class says; `optim.dispatch` chooses.
"""
