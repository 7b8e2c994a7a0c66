"""``python -m nncf_core.testing module:Suite …``: run conformance suites without pytest."""

from __future__ import annotations

import importlib
import sys
from collections import Counter

from nncf_core.testing.suite import Suite, check


def main(targets: list[str]) -> int:
    """Run suites and print what fails; the number returned is the exit status."""
    if not targets or any(":" not in target for target in targets):
        print("usage: python -m nncf_core.testing MODULE:SUITE ...", file=sys.stderr)
        return 2
    sys.path.insert(0, "")
    failed = False
    for target in targets:
        module, _, name = target.partition(":")
        suite = getattr(importlib.import_module(module), name)
        if not (isinstance(suite, type) and issubclass(suite, Suite)):
            print(f"{target} is not a conformance suite", file=sys.stderr)
            return 2
        outcomes = check(suite)
        for outcome in outcomes:
            if outcome.error is not None:
                print(f"FAILED {outcome.test}\n    {outcome.error}")
            elif outcome.skipped is not None:
                print(f"skipped {outcome.test}: {outcome.skipped}")
        count = Counter("failed" if o.error else "skipped" if o.skipped else "passed" for o in outcomes)
        print(f"{target}: " + ", ".join(f"{count[state]} {state}" for state in ("passed", "failed", "skipped")))
        failed = failed or count["failed"] > 0 or not outcomes
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
