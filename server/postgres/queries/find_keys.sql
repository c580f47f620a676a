-- Reads the records of keys, given as two arrays of the same length.
SELECT k.organization_id::text, k.key_id, k.digest, k.expires_at, k.revoked_at IS NOT NULL AS revoked
FROM unnest($1::uuid[], $2::text[]) AS wanted (organization_id, key_id)
JOIN api_keys AS k ON k.organization_id = wanted.organization_id AND k.key_id = wanted.key_id
