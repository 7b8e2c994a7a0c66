"""Weight compression algorithm for nncf-core: INT8, INT4, NF4, FP4, MX and codebooks."""
