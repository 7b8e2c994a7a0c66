"""The sample distributions, importable without being installed."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
ALGORITHM = HERE / "third_party_algorithm"
BACKEND = HERE / "third_party_backend"

for folder in (ALGORITHM, BACKEND):
    sys.path.append(str(folder / "src"))
