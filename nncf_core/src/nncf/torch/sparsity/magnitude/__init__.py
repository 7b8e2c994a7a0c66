"""Zeros by magnitude."""
