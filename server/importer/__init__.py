"""Bulk import: reads a file of upserts and sends them in batches to a running service, as any client would."""
