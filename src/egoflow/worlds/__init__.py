"""Procedural worlds rendered by a ray caster with exact ground truth."""
