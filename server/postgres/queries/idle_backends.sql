-- Which of these backends have had nothing to do for a while. Whoever waits for an answer of theirs has lost it: either
-- the statement did not reach them, or the answer did not come back.
--
-- In: $1 their process ids.
SELECT a.pid
FROM pg_stat_activity AS a
WHERE a.pid = ANY ($1::int[]) AND a.state = 'idle' AND a.state_change < clock_timestamp() - interval '0.5 s'
