"""The sample distributions, importable without being installed."""

import sys
import tempfile
from pathlib import Path

from nncf_core.plugin_templates import write_plugin

HERE = Path(__file__).parent
ALGORITHM = HERE / "third_party_algorithm"
# what `nncf new-plugin backend toy` writes
BACKEND = write_plugin("backend", "toy", Path(tempfile.mkdtemp(prefix="plugins")))

for folder in (ALGORITHM, BACKEND):
    sys.path.append(str(folder / "src"))
