-- Identity: persons, accounts and sessions. They belong to the installation, not to a clinic.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- A human, with or without an account.
create table person (
    person_id uuid primary key,
    given_name text not null,
    family_name text not null,
    birth_date date,
    language text not null default 'en'
);

create table account (
    person_id uuid primary key references person,
    email text collate "C" not null unique check (email = lower(email)),
    password_hash text not null,
    status text not null default 'active' check (status in ('active', 'disabled'))
);

-- A sign-in. The refresh token is a MAC over the generation, so that nothing secret is stored.
create table session (
    person_id uuid not null references account,
    session_id uuid not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    refreshed_at timestamptz not null,
    generation bigint not null default 0,
    ended_at timestamptz,
    end_reason text check (end_reason in ('logout', 'refresh_reused')),
    primary key (person_id, session_id)
) partition by hash (person_id);

do $$ begin
    for part in 0..15 loop
        execute format('create table session_%s partition of session for values with (modulus 16, remainder %s)',
            lpad(part::text, 2, '0'), part);
    end loop;
end $$;

-- One-use tickets to the live socket. Only the hash of what the client holds.
create table live_pass (
    pass_hash bytea primary key,
    person_id uuid not null references person,
    session_id uuid not null,
    expires_at timestamptz not null
);
create index live_pass_expiry on live_pass (expires_at);

alter table person enable row level security, force row level security;
create policy owner on person to current_user using (true) with check (true);
create policy self on person to cliniq_person
using (person_id = (select nullif(current_setting('cliniq.person_id', true), '')::uuid));
call admit_platform('person', 'select, insert, update');
grant select on person to cliniq_person;

grant select, insert, update on account to cliniq_platform;
grant select, insert, update on session to cliniq_platform;
grant select, insert, delete on live_pass to cliniq_platform;
