"""SmoothQuant and channel equalization as a plugin of nncf-core."""
