"""Knowledge distillation as a plugin of nncf-core."""
