-- What happened, who did it, and what is still to be told.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Append-only for the application. No patient data: ids, codes and words of our own.
create table audit (
    clinic_id uuid not null default current_clinic(),
    audit_id uuid not null,
    recorded_at timestamptz not null,
    happened_at timestamptz not null,
    actor_id uuid,
    permission text not null,
    action text not null,
    outcome text not null check (outcome in ('success', 'denied')),
    code text not null default '',
    entity_type text not null,
    entity_id uuid,
    request_id text not null,
    primary key (clinic_id, audit_id, recorded_at)
) partition by range (recorded_at);
create index audit_recent on audit (clinic_id, recorded_at);

create sequence outbox_number;
grant usage on sequence outbox_number to cliniq_clinic, cliniq_person;

-- Facts to be published, written in the transaction that makes them true.
create table outbox (
    clinic_id uuid not null default current_clinic(),
    outbox_id bigint not null default nextval('outbox_number'),
    recorded_at timestamptz not null,
    kind text not null,
    subject_id uuid not null,
    topic text not null,
    version bigint not null,
    body jsonb not null,
    primary key (clinic_id, outbox_id, recorded_at)
) partition by range (recorded_at);
create index outbox_order on outbox (outbox_id);

-- What has no clinic to be audited in: failed sign-ins, and knocks at clinics that do not exist.
create table security_event (
    event_id uuid not null,
    recorded_at timestamptz not null,
    actor_id uuid,
    action text not null,
    code text not null,
    request_id text not null,
    primary key (event_id, recorded_at)
) partition by range (recorded_at);

insert into partitioned (table_name, cut, clock, ahead) values
    ('audit', 'week', 'wall', interval '5 weeks'),
    ('outbox', 'day', 'wall', interval '14 days'),
    ('security_event', 'week', 'wall', interval '5 weeks');

call wall_in('audit', 'select, insert', 'insert', 'written');
call wall_in('outbox', 'insert', 'insert', 'written');

alter table security_event enable row level security, force row level security;
create policy owner on security_event to current_user using (true) with check (true);
call admit_platform('security_event', 'insert');
