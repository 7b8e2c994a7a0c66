"""OpenVINO backend for nncf-core."""
