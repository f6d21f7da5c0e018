"""From a folder of records to Table 3, its statistics and its figures. Nothing below this package imports torch.

`load` reads records, `aggregate` groups them into cells, `selection` says which cell was chosen and what that costs,
`stats` and `bootstrap` take arrays and return numbers, `comparisons` puts two optimizers side by side, `tables`,
`plots`, `curves` and `page` print, and `build` does all of it in order.
"""

MARGIN = 0.5
"""Points of score within which an average difference is none in practice, unless another margin is given."""
