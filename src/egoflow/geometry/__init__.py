"""Pixels, cameras, rigid motions and flows: pure functions that know no network, loss or file."""
