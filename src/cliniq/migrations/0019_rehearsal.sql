-- Rehearsals: a database in which nobody real is seen, so that its clinic time may be turned.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- At most one row, which only the owner can write: the application cannot make a rehearsal of an installation.
create table rehearsal (
    one boolean primary key default true check (one),
    marked_at timestamptz not null
);
grant select on rehearsal to cliniq_platform;

-- Mark the database as a rehearsal, before it has its first clinic. Idempotent.
create procedure mark_rehearsal(wall timestamptz)
language plpgsql set search_path = public, pg_temp as $$
begin
    lock table rehearsal in exclusive mode;
    if exists (select from rehearsal) then
        return;
    elsif exists (select from clinic) then
        raise 'there are clinics already' using errcode = 'CQ409';
    end if;
    insert into rehearsal (marked_at) values (wall);
end $$;
