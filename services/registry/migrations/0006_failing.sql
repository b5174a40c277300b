-- Since when the store could not be brought to what the rule says, or could not be asked; empty where the last look was right.
ALTER TABLE locks ADD COLUMN failing_since BIGINT;
CREATE INDEX locks_failing ON locks (failing_since) WHERE failing_since IS NOT NULL;

-- What each bureau is awaited with.
CREATE INDEX deadlines_awaited_by_bureau ON deadlines (bureau, last_moment) WHERE stored_at IS NULL;
