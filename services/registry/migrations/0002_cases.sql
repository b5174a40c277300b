-- Cases: what their entries say, up to the last one.
CREATE TABLE cases (
    id TEXT PRIMARY KEY,
    bureau TEXT NOT NULL,
    -- In NFKC.
    number TEXT NOT NULL,
    -- The last entry.
    seq BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    party TEXT,
    cause TEXT,
    -- 'open', 'closed' or 'permanent'.
    status TEXT NOT NULL,
    -- Until when the file of a closed case is kept.
    kept_until BIGINT,
    UNIQUE (bureau, number)
);

-- The entries, as they lie in the store.
CREATE TABLE case_entries (
    case_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (case_id, seq)
);

-- Recordings that were bound to a case by name. One that names the case in its metadata is bound without.
CREATE TABLE evidence (
    case_id TEXT NOT NULL,
    recording_id TEXT NOT NULL,
    PRIMARY KEY (case_id, recording_id)
);
CREATE INDEX evidence_by_recording ON evidence (recording_id);

-- Entries that may lie in the store already and are not known here yet: looked for at the next start.
CREATE TABLE case_intents (
    case_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    bureau TEXT NOT NULL,
    number TEXT NOT NULL,
    PRIMARY KEY (case_id, seq)
);
