"""Lists on a real Postgres: pages, positions and what they cost."""
