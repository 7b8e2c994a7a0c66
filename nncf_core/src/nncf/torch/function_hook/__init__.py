"""Where NNCF has parts of its PyTorch backend; a name of its pruning."""
