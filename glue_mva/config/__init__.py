"""What a run is: `RunConfig` and its checks, recipes that fill it in, the schedule, and the identity of its result.

Imports no torch. Knows the ground and the registry of optimizers, nothing else.
"""
