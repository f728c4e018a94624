"""Clips, videos, folders, public data sets and file formats."""
