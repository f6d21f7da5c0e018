"""One run: `run(RunConfig) -> RunRecord`, through `GlueTrainer`, its arguments, callbacks and metrics.

The record that a run leaves is all that the rooms above ever read.
"""
