-- Writes when keys were last used.
--
-- $1, $2, $3: each key's organization, own id, and time of use. A key that somebody else writes just now is let go: what
-- they write is as new, and so nobody waits, and no two wait for each other.
WITH due AS MATERIALIZED (
    SELECT k.organization_id, k.key_id, used.used_at
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS used (organization_id, key_id, used_at)
    CROSS JOIN LATERAL (
        SELECT k.organization_id, k.key_id
        FROM api_keys AS k
        WHERE k.organization_id = used.organization_id AND k.key_id = used.key_id
            AND (k.last_used_at IS NULL OR k.last_used_at < used.used_at)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS k
)
UPDATE api_keys AS k SET last_used_at = due.used_at
FROM due
WHERE k.organization_id = due.organization_id AND k.key_id = due.key_id
