-- One upsert a statement, as one would write it by hand: what the request carries changes, attributes merge.
INSERT INTO participants AS p (
    organization_id, participant_id, external_id, status, display_name, email, first_name, last_name, phone,
    attributes, tags
)
VALUES (
    %(organization_id)s::uuid, %(participant_id)s::uuid, %(external_id)s::text,
    coalesce(%(status)s::text, 'ACTIVE'), %(display_name)s::text, %(email)s::text, %(first_name)s::text,
    %(last_name)s::text, %(phone)s::text, %(attributes)s::jsonb, %(tags)s::text[]
)
ON CONFLICT (organization_id, external_id) DO UPDATE SET
    status = coalesce(%(status)s::text, p.status),
    display_name = coalesce(excluded.display_name, p.display_name),
    email = coalesce(excluded.email, p.email),
    first_name = coalesce(excluded.first_name, p.first_name),
    last_name = coalesce(excluded.last_name, p.last_name),
    phone = coalesce(excluded.phone, p.phone),
    attributes = p.attributes || excluded.attributes,
    tags = CASE WHEN excluded.tags = '{}' THEN p.tags ELSE excluded.tags END,
    updated_at = statement_timestamp()
RETURNING
    participant_id::text, external_id, status, display_name, email, first_name, last_name, phone, attributes, tags,
    created_at, updated_at, xmax = 0 AS created
