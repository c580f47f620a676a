"""Group commit: upserts that are in flight together go to the database in one statement and one commit."""
