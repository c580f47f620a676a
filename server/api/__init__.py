"""What every call goes through, whichever transport it came by: deadline, key, rules, conversion, errors."""
