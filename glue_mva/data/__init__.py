"""Rows: any source (official files, the Hub, a saved dataset, the demo) -> checked rows -> tokenized rows.

`load` chooses the source and checks what came; `encode` tokenizes once and keeps a cache.
"""
