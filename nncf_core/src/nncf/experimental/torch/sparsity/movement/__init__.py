"""Zeros by how weights move."""
