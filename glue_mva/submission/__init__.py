"""Records and predictions of the test sets -> the zip that the GLUE server takes, written and checked.

Knows the ground and `report`; imports no torch.
"""
