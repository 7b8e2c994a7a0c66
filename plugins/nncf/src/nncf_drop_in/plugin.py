"""Entry point of the plugin."""

NNCF_HOOK_API = 1

NNCF_DROP_IN = True
