"""Accuracy control as a plugin of nncf-core."""
