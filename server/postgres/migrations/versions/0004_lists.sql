-- A list is a range of an index, in both of its orders, for each of its filters: the position of a page costs nothing.
-- These indexes block writes while they are built, and with millions of participants that takes a minute or two; who
-- cannot wait creates them CONCURRENTLY beforehand under the same names.
CREATE INDEX IF NOT EXISTS participants_created_at
    ON participants (organization_id, created_at, participant_id);
CREATE INDEX IF NOT EXISTS participants_status_created_at
    ON participants (organization_id, status, created_at, participant_id);
CREATE INDEX IF NOT EXISTS participants_status_external_id
    ON participants (organization_id, status, external_id);
CREATE INDEX IF NOT EXISTS participants_email_created_at
    ON participants (organization_id, email, created_at, participant_id) WHERE email IS NOT NULL;
CREATE INDEX IF NOT EXISTS participants_email_external_id
    ON participants (organization_id, email, external_id) WHERE email IS NOT NULL;

-- Who has a tag (`tag:vip`) or is actively enrolled in a program (`program:` and its id). An index of arrays (GIN) finds
-- all who have a tag, in no order, so that a page would cost as much as the whole list. Triggers keep it, whoever writes;
-- what erases a participant erases its labels too.
CREATE TABLE participant_labels (
    organization_id uuid NOT NULL,
    label text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    participant_id uuid NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, label, created_at, participant_id)
);

CREATE FUNCTION label_participant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM participant_labels AS l
        WHERE l.organization_id = OLD.organization_id
            AND l.label = ANY (
                ARRAY(SELECT 'tag:' || t.tag FROM unnest(OLD.tags) AS t (tag) WHERE t.tag <> ALL (NEW.tags))
            )
            AND l.created_at = OLD.created_at
            AND l.participant_id = OLD.participant_id;
        IF OLD.external_id <> NEW.external_id THEN
            UPDATE participant_labels AS l
            SET external_id = NEW.external_id
            WHERE l.organization_id = OLD.organization_id
                AND l.label = ANY (
                    ARRAY(
                        SELECT 'tag:' || t.tag FROM unnest(NEW.tags) AS t (tag)
                        UNION ALL
                        SELECT 'program:' || e.program_id
                        FROM enrollments AS e
                        WHERE e.organization_id = OLD.organization_id AND e.participant_id = OLD.participant_id
                    )
                )
                AND l.created_at = OLD.created_at
                AND l.participant_id = OLD.participant_id;
        END IF;
    END IF;
    INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
    SELECT NEW.organization_id, 'tag:' || t.tag, NEW.created_at, NEW.participant_id, NEW.external_id
    FROM unnest(NEW.tags) AS t (tag)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE FUNCTION label_enrollment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.active THEN
        INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
        SELECT p.organization_id, 'program:' || NEW.program_id, p.created_at, p.participant_id, p.external_id
        FROM participants AS p
        WHERE p.organization_id = NEW.organization_id AND p.participant_id = NEW.participant_id
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM participant_labels AS l
        USING participants AS p
        WHERE p.organization_id = OLD.organization_id AND p.participant_id = OLD.participant_id
            AND l.organization_id = OLD.organization_id
            AND l.label = 'program:' || OLD.program_id
            AND l.created_at = p.created_at
            AND l.participant_id = OLD.participant_id;
    END IF;
    RETURN NULL;
END
$$;

-- The conditions keep what changes nothing here from the cost of a function.
CREATE TRIGGER label_new AFTER INSERT ON participants
    FOR EACH ROW WHEN (cardinality(NEW.tags) > 0) EXECUTE FUNCTION label_participant();
CREATE TRIGGER label_changed AFTER UPDATE ON participants
    FOR EACH ROW WHEN (OLD.tags <> NEW.tags OR OLD.external_id <> NEW.external_id) EXECUTE FUNCTION label_participant();
CREATE TRIGGER label_new AFTER INSERT ON enrollments
    FOR EACH ROW WHEN (NEW.active) EXECUTE FUNCTION label_enrollment();
CREATE TRIGGER label_changed AFTER UPDATE ON enrollments
    FOR EACH ROW WHEN (OLD.active <> NEW.active) EXECUTE FUNCTION label_enrollment();
CREATE TRIGGER label_ended AFTER DELETE ON enrollments
    FOR EACH ROW WHEN (OLD.active) EXECUTE FUNCTION label_enrollment();

INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
SELECT p.organization_id, 'tag:' || t.tag, p.created_at, p.participant_id, p.external_id
FROM participants AS p, unnest(p.tags) AS t (tag)
UNION ALL
SELECT p.organization_id, 'program:' || e.program_id, p.created_at, p.participant_id, p.external_id
FROM participants AS p
JOIN enrollments AS e ON e.organization_id = p.organization_id AND e.participant_id = p.participant_id
WHERE e.active;

CREATE INDEX participant_labels_external_id ON participant_labels (organization_id, label, external_id);
