"""What may be said about two optimizers: sentences that say no more than the numbers of `comparisons` do."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
