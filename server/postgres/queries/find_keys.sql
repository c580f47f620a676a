-- Reads the records of keys of one organization.
--
-- $1: the organization; $2: the keys' own ids. The OFFSET has each key looked up by itself: a plan made while the table
-- was small would read all keys of the organization.
SELECT found.organization_id::text, found.key_id, found.digest, found.expires_at, found.revoked
FROM unnest($2::text[]) AS wanted (key_id)
CROSS JOIN LATERAL (
    SELECT k.organization_id, k.key_id, k.digest, k.expires_at, k.revoked_at IS NOT NULL AS revoked
    FROM api_keys AS k
    WHERE k.organization_id = $1::uuid AND k.key_id = wanted.key_id
    OFFSET 0
) AS found
