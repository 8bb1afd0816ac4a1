-- What has yet to be handed to jobs, apart from what only waits for a bus that is away.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- A partitioned table takes no index concurrently; the outbox holds what waits, which is little.
-- squawk-ignore require-concurrent-index-creation
create index outbox_new on outbox (outbox_id) where not is_forwarded;
