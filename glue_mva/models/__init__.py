"""Tokenizer and classifier, and what makes their training fast: packing, attention, dropout, precision, memory.

Knows nothing of trainers or records.
"""
