"""Weight compression: INT8, INT4, INT3, INT2, NF4, FP4, FP8, MX and codebooks, with mixed precision."""

__version__ = "0.1.0"
