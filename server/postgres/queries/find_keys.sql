-- Reads the records of keys of one organization.
--
-- $1: the organization; $2: the keys' own ids.
SELECT k.organization_id::text, k.key_id, k.digest, k.expires_at, k.revoked_at IS NOT NULL AS revoked
FROM api_keys AS k
WHERE k.organization_id = $1::uuid AND k.key_id = ANY ($2::text[])
