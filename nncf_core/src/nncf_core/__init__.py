"""The framework-free core: hook specifications, graph, numerics, configuration and the one pipeline.

Import what you need from the submodules; importing this package loads nothing else.
"""

__version__ = "0.1.0"
