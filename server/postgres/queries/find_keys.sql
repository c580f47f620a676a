-- Reads the records of keys.
--
-- In: a JSON array of objects with an organization_id and a key_id.
SELECT k.organization_id::text, k.key_id, k.digest, k.expires_at, k.revoked_at IS NOT NULL AS revoked
FROM json_to_recordset($1::json) AS wanted (organization_id uuid, key_id text)
JOIN api_keys AS k ON k.organization_id = wanted.organization_id AND k.key_id = wanted.key_id
