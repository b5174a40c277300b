-- What protects each subject: a recording, or the record of a case.
CREATE TABLE locks (
    subject TEXT PRIMARY KEY,
    -- 'recording' or 'case'.
    kind TEXT NOT NULL,
    bureau TEXT NOT NULL,
    -- Grows with every change that may change what the rule says of it.
    revision BIGINT NOT NULL,
    -- The revision the store was brought to, and what was read back then: the least date and whether all is held.
    kept_revision BIGINT,
    lock_until BIGINT,
    hold BIGINT,
    -- 'floor', 'open_case', 'closed_case', 'permanent_case' or 'earlier_lock', and the number of the case.
    follows TEXT,
    follows_case TEXT,
    -- When the store is to be looked at next; 0 is at once.
    look_at BIGINT NOT NULL,
    -- Set while a hold may be on its way off.
    off_sent_at BIGINT
);
CREATE INDEX locks_by_look ON locks (look_at, subject);

INSERT INTO locks (subject, kind, bureau, revision, look_at) SELECT id, 'recording', bureau, 1, 0 FROM recordings;
INSERT INTO locks (subject, kind, bureau, revision, look_at) SELECT id, 'case', bureau, 1, 0 FROM cases;
ALTER TABLE recordings DROP COLUMN revision;

-- When an entry was begun: the store may still take it for some time after its writer gave up.
ALTER TABLE case_intents ADD COLUMN at BIGINT NOT NULL DEFAULT 0;
