-- Intake: files from elsewhere, how far their import has come, and what is to be told of their rows.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- `digest` is of all that the source says and of how it is read: the same one goes on where it stood.
create table import_run (
    clinic_id uuid not null default current_clinic() references clinic,
    import_id uuid not null,
    kind text not null check (kind in ('patients', 'appointments')),
    source text not null,
    digest bytea not null,
    state text not null default 'running' check (state in ('running', 'completed', 'refused')),
    read bigint not null default 0,
    written bigint not null default 0,
    known bigint not null default 0,
    refused bigint not null default 0,
    skipped bigint not null default 0,
    started_at timestamptz not null,
    ended_at timestamptz,
    actor_id uuid,
    primary key (clinic_id, import_id),
    check (read = written + known + refused + skipped),
    check ((state = 'running') = (ended_at is null))
);
create unique index import_run_running on import_run (clinic_id, kind, digest) where state = 'running';
create index import_run_latest on import_run (clinic_id, started_at, import_id);

-- What is to be told of the items of a source, by their place in it. Never what stood there.
create table import_remark (
    clinic_id uuid not null default current_clinic(),
    import_id uuid not null,
    place bigint not null,
    part bigint not null,
    file text not null,
    line bigint not null,
    column_name text,
    code text not null,
    reason text not null,
    primary key (clinic_id, import_id, place, part),
    foreign key (clinic_id, import_id) references import_run
);

-- A file that was sent over HTTP, until its import has ended.
create table import_file (
    clinic_id uuid not null default current_clinic(),
    import_id uuid not null,
    name text not null,
    reading text not null,
    body bytea not null,
    primary key (clinic_id, import_id),
    foreign key (clinic_id, import_id) references import_run
);
alter table import_file alter column body set storage external; -- it is packed already, or soon gone

call wall_in('import_run', 'select, insert, update');
call wall_in('import_remark', 'select, insert');
call wall_in('import_file', 'select, insert, delete');
