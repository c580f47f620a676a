"""A rolling restart under load, which fails no call. `make rolling` runs it; it is slow."""
