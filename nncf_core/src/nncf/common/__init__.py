"""What the backends have in common."""

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.common import accuracy_aware_training as accuracy_aware_training
    from nncf.common import factory as factory
    from nncf.common import graph as graph
    from nncf.common import initialization as initialization
    from nncf.common import logging as logging
    from nncf.common import pruning as pruning
    from nncf.common import quantization as quantization
    from nncf.common import sparsity as sparsity
    from nncf.common import statistics as statistics
    from nncf.common import utils as utils

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(
        __name__,
        submodules=(
            "accuracy_aware_training",
            "factory",
            "graph",
            "initialization",
            "logging",
            "pruning",
            "quantization",
            "sparsity",
            "statistics",
            "utils",
        ),
    )
