"""Readers of foreign label formats, one file each."""
