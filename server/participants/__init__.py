"""What a participant is and what an upsert does, in plain Python: no protobuf, no SQL, no transport."""
