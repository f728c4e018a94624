"""Per-pixel error maps, masks and the reducers that turn them into one number."""
