-- How far each partition of the events was read: in the transaction of what was read.
CREATE TABLE positions (
    partition_number BIGINT PRIMARY KEY,
    next_offset BIGINT NOT NULL
);

-- Recordings that are stored. Times are seconds since 1970; dates of locks as well.
CREATE TABLE recordings (
    id TEXT PRIMARY KEY,
    bureau TEXT NOT NULL,
    generation BIGINT NOT NULL,
    object_key TEXT NOT NULL,
    version TEXT NOT NULL,
    size BIGINT NOT NULL,
    blake3 TEXT NOT NULL,
    stored_at BIGINT NOT NULL,
    -- The end of the least period, and whether a hold was set when it was stored.
    floor_until BIGINT NOT NULL,
    hold_at_storing BIGINT NOT NULL,
    -- 'intact' or 'damaged' once it was read back.
    verification TEXT,
    -- 'made' or 'failed' once that was tried.
    derivation TEXT,
    -- When the device was used (Article 19), else when it was stored.
    used_at BIGINT NOT NULL,
    scene_ended_at BIGINT,
    unit TEXT NOT NULL,
    device_id TEXT,
    party TEXT,
    cause TEXT,
    -- In NFKC.
    case_number TEXT,
    original_name TEXT NOT NULL,
    source TEXT NOT NULL,
    -- The whole metadata, as in the manifest.
    metadata TEXT NOT NULL,
    -- Grows with every change that may change what protects the recording.
    revision BIGINT NOT NULL
);
CREATE INDEX recordings_by_time ON recordings (bureau, used_at, id);
CREATE INDEX recordings_by_unit ON recordings (bureau, unit, used_at, id);
CREATE INDEX recordings_by_device ON recordings (bureau, device_id, used_at, id);
CREATE INDEX recordings_by_party ON recordings (bureau, party, used_at, id);
CREATE INDEX recordings_by_cause ON recordings (bureau, cause, used_at, id);
CREATE INDEX recordings_by_case ON recordings (bureau, case_number);

CREATE TABLE officers (
    bureau TEXT NOT NULL,
    officer TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    recording_id TEXT NOT NULL REFERENCES recordings (id) ON DELETE CASCADE,
    PRIMARY KEY (bureau, officer, used_at, recording_id)
);
CREATE INDEX officers_by_recording ON officers (recording_id);

-- The rebuild from the bucket: one row while it is under way, with the last key that was looked at.
CREATE TABLE rebuild (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    after_key TEXT NOT NULL
);
