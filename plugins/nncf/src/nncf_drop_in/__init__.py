"""Stands for the distribution ``nncf``, so that packages that require it take this project."""
