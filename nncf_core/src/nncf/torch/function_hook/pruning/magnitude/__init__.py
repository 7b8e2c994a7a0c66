"""Pruning by magnitude."""
