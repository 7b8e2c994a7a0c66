"""Settings of the documentation's site: ``make docs``."""

project = "nncf-core"
author = "the nncf-core authors"
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nncf-core"
# pages that work from a folder, without a network
html_use_index = True
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# pages link to files of the repository, too
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
# attrs makes __init__ of what the class says
autodoc_class_signature = "mixed"
maximum_signature_line_length = 100
