"""Zeros that stay."""
