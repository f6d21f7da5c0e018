"""What the exit code of a command says."""

EXIT_FAILED = 1
"""Something ran and failed: a diverged run, a failed run of a sweep."""
EXIT_REFUSED = 2
"""Bad input: nothing was started, nothing written."""
