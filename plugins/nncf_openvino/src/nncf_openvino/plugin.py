"""Entry point of the plugin. It registers nothing yet: the OpenVINO backend is under construction."""

NNCF_HOOK_API = 1
