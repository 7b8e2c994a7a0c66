"""How compressed weights are written in OpenVINO models, and recognised in them."""
