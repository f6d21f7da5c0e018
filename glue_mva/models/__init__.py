"""Tokenizer and classifier, and what makes their training fast: packing, attention, precision, memory.

Knows nothing of trainers or records.
"""
