"""Number formats and the kernels that bring tensors into them and back, on numpy arrays.

``formats`` says what the formats are, ``tensor`` what a compressed tensor is, ``kernels`` has the functions
that the rest of the framework calls.
"""
