-- Takes what every write takes, and leaves nothing behind: the message goes to the write-ahead log alone, is committed
-- as durably as a row, and fails on a standby; the exported snapshot is a small file while the statement runs, and fails
-- when the disk is full. To update a row would tell less: on a page that is there already it works on a full disk, too.
SELECT
    current_setting('transaction_read_only') = 'off',
    pg_logical_emit_message(true, 'participants', 'probe'::text),
    pg_export_snapshot()
