-- The relay: who passes on which facts, what else it needs to know of them, and what it could not pass on.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Facts of one topic stand in one shard, so that one relay passes them on in order. A release that knows no
-- shards writes into the first. `shown` is what those who watch the topic may see; `trace` where it began.
-- `is_forwarded`: its jobs exist, and only the bus has yet to hear of it.
alter table outbox
    add column shard bigint not null default 0,
    add column shown jsonb,
    add column trace text not null default '',
    add column is_forwarded boolean not null default false;

-- The platform passes on what every clinic tells. Partitions that are open already need its policy too.
call admit_platform('outbox', 'select, insert, delete');
grant update (is_forwarded) on outbox to cliniq_platform;
do $$
declare part regclass;
begin
    for part in select inhrelid::regclass from pg_inherits where inhparent = 'outbox'::regclass loop
        execute format('create policy platform on %s to cliniq_platform using (true) with check (true)', part);
    end loop;
end $$;

-- Who passes on a shard, and until when. A relay that is late finds that its lease is another's.
create table relay_lease (
    shard bigint primary key,
    holder uuid,
    expires_at timestamptz
);
insert into relay_lease (shard) select generate_series(0, 7);

-- The relays that live: each takes its share of the shards and no more.
create table relay (
    relay_id uuid primary key,
    expires_at timestamptz not null
);

-- Facts whose jobs could not be made, time and again. They wait for a human; their neighbours went on.
create table outbox_held (
    clinic_id uuid not null default current_clinic(),
    outbox_id bigint not null,
    recorded_at timestamptz not null,
    kind text not null,
    subject_id uuid not null,
    topic text not null,
    version bigint not null,
    body jsonb not null,
    shard bigint not null,
    shown jsonb,
    trace text not null,
    held_at timestamptz not null,
    reason text not null,
    primary key (clinic_id, outbox_id)
);

grant select, update on relay_lease to cliniq_platform;
grant select, insert, update, delete on relay to cliniq_platform;
alter table outbox_held enable row level security, force row level security;
create policy owner on outbox_held to current_user using (true) with check (true);
call admit_platform('outbox_held', 'select, insert, delete');
