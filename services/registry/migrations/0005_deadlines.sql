-- How far each partition of each topic was read: in the transaction of what was read. Events are read once more, for what was
-- not known of them before.
CREATE TABLE reads (
    topic TEXT NOT NULL,
    partition_number BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (topic, partition_number)
);
DROP TABLE positions;

-- By when recordings must be stored (Article 13): as announced, as opened, or as stored.
CREATE TABLE deadlines (
    recording_id TEXT PRIMARY KEY,
    bureau TEXT NOT NULL,
    -- Where this is from: 1 announced, 2 opened, 3 stored. What is stored counts most.
    origin BIGINT NOT NULL,
    original_name TEXT NOT NULL,
    unit TEXT NOT NULL,
    device_id TEXT,
    ended_at BIGINT NOT NULL,
    due BIGINT NOT NULL,
    provisional BIGINT NOT NULL,
    -- The version of the calendar it was reckoned by.
    calendar TEXT NOT NULL,
    extended_to BIGINT,
    -- How often it was extended.
    extensions BIGINT NOT NULL,
    -- The later of due and extended_to.
    last_moment BIGINT NOT NULL,
    stored_at BIGINT,
    -- The last moment of which it was told that it is near, and missed: one that is moved is told of anew.
    near_told BIGINT,
    missed_told BIGINT
);
CREATE INDEX deadlines_by_moment ON deadlines (bureau, last_moment, recording_id);
CREATE INDEX deadlines_awaited ON deadlines (last_moment) WHERE stored_at IS NULL;
CREATE INDEX deadlines_by_calendar ON deadlines (calendar, recording_id);

-- Extensions, as they lie in the store; before that was read back, they do not count.
CREATE TABLE extensions (
    recording_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    document TEXT NOT NULL,
    until BIGINT NOT NULL,
    at BIGINT NOT NULL,
    is_written BIGINT NOT NULL,
    PRIMARY KEY (recording_id, seq)
);
CREATE INDEX extensions_unwritten ON extensions (at) WHERE is_written = 0;

-- What a person should look at.
CREATE TABLE flags (
    subject TEXT NOT NULL,
    flag TEXT NOT NULL,
    detail TEXT NOT NULL,
    raised_at BIGINT NOT NULL,
    PRIMARY KEY (subject, flag)
);

-- The numbers in the names of a device's files.
CREATE TABLE file_numbers (
    bureau TEXT NOT NULL,
    device_id TEXT NOT NULL,
    series TEXT NOT NULL,
    number BIGINT NOT NULL,
    recording_id TEXT NOT NULL,
    PRIMARY KEY (bureau, device_id, series, number, recording_id)
);
CREATE INDEX file_numbers_by_recording ON file_numbers (recording_id);

-- Recordings that are, or were, removed after their retention had run out.
CREATE TABLE disposals (
    recording_id TEXT NOT NULL,
    generation BIGINT NOT NULL,
    bureau TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- The record as it lies, or is to lie, in the store; empty where only the fact of it is known.
    document TEXT NOT NULL,
    is_done BIGINT NOT NULL,
    -- An audit found its record without a hold.
    is_loose BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (recording_id, generation)
);
CREATE INDEX disposals_begun ON disposals (recording_id) WHERE is_done = 0;
CREATE INDEX disposals_loose ON disposals (recording_id) WHERE is_loose = 1;

-- Events that are to be published, in the order of the transactions that wrote them.
CREATE TABLE outbox (
    seq BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    bureau TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- Protobuf, in hex.
    payload TEXT NOT NULL
);
-- Ids of events that are in the outbox, or were published, by whichever database.
CREATE TABLE told (event_id TEXT PRIMARY KEY);
-- The sequence of the last event. One row: whoever takes the next one commits before the next.
CREATE TABLE event_clock (id BIGINT PRIMARY KEY CHECK (id = 1), seq BIGINT NOT NULL);
INSERT INTO event_clock (id, seq) VALUES (1, 0);

-- What was told of a recording's lock; empty where nothing was, and nothing of the past is to be told.
ALTER TABLE locks ADD COLUMN told TEXT;
-- When the store was read back last.
ALTER TABLE locks ADD COLUMN kept_at BIGINT;
UPDATE locks SET look_at = 0;
CREATE INDEX locks_by_end ON locks (bureau, lock_until, subject);

-- Entries of cases that lie in the store, or must, and could not be taken over. While there are any, nothing of their bureau is
-- loosened.
CREATE TABLE unread_entries (
    key TEXT PRIMARY KEY,
    bureau TEXT NOT NULL
);
CREATE INDEX unread_entries_by_bureau ON unread_entries (bureau);
