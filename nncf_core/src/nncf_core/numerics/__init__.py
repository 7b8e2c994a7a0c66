"""Number formats and the kernels that bring tensors into them and back.

``formats`` says what the formats are, ``tensor`` what a compressed tensor is, ``kernels`` has the functions
that the rest of the framework calls. They compute on numpy arrays; modules whose names begin with ``array`` do the same
on arrays of any library, wherever these lie.
"""
