-- Reads the records of keys of several organizations.
--
-- $1, $2: each key's organization and own id. Two ANYs would look every organization up with every id. The OFFSET has
-- each key looked up by itself: a plan made while the table was small would read all of it.
SELECT found.organization_id::text, found.key_id, found.digest, found.expires_at, found.revoked
FROM unnest($1::uuid[], $2::text[]) AS wanted (organization_id, key_id)
CROSS JOIN LATERAL (
    SELECT k.organization_id, k.key_id, k.digest, k.expires_at, k.revoked_at IS NOT NULL AS revoked
    FROM api_keys AS k
    WHERE k.organization_id = wanted.organization_id AND k.key_id = wanted.key_id
    OFFSET 0
) AS found
