-- What recordings are found by (Article 19): 'unit', 'device', 'officer', 'party', 'cause', 'case'. 当事人 and 案由 are the
-- recording's own, and those of the cases it is evidence in.
CREATE TABLE facets (
    bureau TEXT NOT NULL,
    facet TEXT NOT NULL,
    value TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    recording_id TEXT NOT NULL REFERENCES recordings (id) ON DELETE CASCADE,
    PRIMARY KEY (bureau, facet, value, used_at, recording_id)
);
CREATE INDEX facets_by_recording ON facets (recording_id, facet);

-- Which recordings are evidence in which case: bound by name, or uploaded for its number.
CREATE VIEW bonds AS
    SELECT case_id, recording_id FROM evidence
    UNION SELECT c.id, r.id FROM cases c JOIN recordings r ON r.bureau = c.bureau AND r.case_number = c.number;

INSERT INTO facets SELECT bureau, 'officer', officer, used_at, recording_id FROM officers;
INSERT INTO facets SELECT bureau, 'unit', unit, used_at, id FROM recordings;
INSERT INTO facets SELECT bureau, 'device', device_id, used_at, id FROM recordings WHERE device_id IS NOT NULL;
INSERT INTO facets SELECT bureau, 'party', party, used_at, id FROM recordings WHERE party IS NOT NULL;
INSERT INTO facets SELECT bureau, 'cause', cause, used_at, id FROM recordings WHERE cause IS NOT NULL;
INSERT INTO facets SELECT bureau, 'case', case_number, used_at, id FROM recordings WHERE case_number IS NOT NULL;
INSERT INTO facets SELECT r.bureau, 'case', c.number, r.used_at, r.id
    FROM evidence e JOIN cases c ON c.id = e.case_id JOIN recordings r ON r.id = e.recording_id WHERE true
    ON CONFLICT DO NOTHING;
INSERT INTO facets SELECT r.bureau, 'party', c.party, r.used_at, r.id
    FROM bonds b JOIN cases c ON c.id = b.case_id JOIN recordings r ON r.id = b.recording_id WHERE c.party IS NOT NULL
    ON CONFLICT DO NOTHING;
INSERT INTO facets SELECT r.bureau, 'cause', c.cause, r.used_at, r.id
    FROM bonds b JOIN cases c ON c.id = b.case_id JOIN recordings r ON r.id = b.recording_id WHERE c.cause IS NOT NULL
    ON CONFLICT DO NOTHING;
DROP TABLE officers;
DROP INDEX recordings_by_unit;
DROP INDEX recordings_by_device;
DROP INDEX recordings_by_party;
DROP INDEX recordings_by_cause;

-- What a case was closed as, and when.
ALTER TABLE cases ADD COLUMN class TEXT;
ALTER TABLE cases ADD COLUMN closed_on TEXT;
ALTER TABLE cases ADD COLUMN full_recording_required BIGINT NOT NULL DEFAULT 0;
