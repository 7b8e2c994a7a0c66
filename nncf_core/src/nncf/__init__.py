"""Neural network compression: the framework-free core and the public API."""
