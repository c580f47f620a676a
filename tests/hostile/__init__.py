"""What strangers and single callers try, and may not achieve: to hurt the others."""
