"""What a run is: `RunConfig` and its checks, recipes that fill it in (`resolve`), the schedule, and the `run_id`.

Imports no torch. Knows the ground and the registry of optimizers, nothing else.
"""
