-- The ground every room stands on: the seats, and what makes a table a clinic's or a person's own.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

do $$ begin
    if (select count(*) from pg_roles
        where rolname in ('cliniq_clinic', 'cliniq_person', 'cliniq_platform')) < 3 then
        raise exception 'the database roles are missing: a superuser must run `cliniq provision` once';
    end if;
end $$;

revoke all on schema public from public;
grant usage on schema public to cliniq_clinic, cliniq_person, cliniq_platform;
grant select on schema_step to cliniq_platform;
alter default privileges revoke execute on functions from public;

-- The clinic of this transaction. NULL, never an error, before a seat was taken;
-- '' appears instead of NULL once a connection has ever set it.
create function current_clinic() returns uuid language sql stable
return nullif(current_setting('cliniq.clinic_id', true), '')::uuid;
grant execute on function current_clinic to cliniq_clinic, cliniq_person, cliniq_platform;

-- Wall in one clinic table. Policies spell the settings out: a scalar sub-select is evaluated once per
-- statement, not per row, and gives indexes their prefix.
-- `person_sees`: 'own' rows by patient_id; 'clinic' rows of the seat's clinics; 'shared' rows that are
-- nobody's or own; 'self' rows by person_id; 'written' rows of the acting clinic, never to be read.
create procedure wall_in(
    wall regclass, clinic_may text, person_may text default '', person_sees text default 'own'
) language plpgsql as $$
declare
    here text := '(clinic_id = (select nullif(current_setting(''cliniq.clinic_id'', true), '''')::uuid))';
    clinics text := 'clinic_id = any ((select nullif(current_setting(''cliniq.clinics'', true), ''''))::uuid[])';
    patients text := 'patient_id = any ((select nullif(current_setting(''cliniq.patients'', true), ''''))::uuid[])';
    person text := 'person_id = (select nullif(current_setting(''cliniq.person_id'', true), '''')::uuid)';
begin
    execute format('alter table %s enable row level security, force row level security', wall);
    execute format('create policy owner on %s to %I using (true) with check (true)', wall, current_user);
    execute format('create policy clinic on %s to cliniq_clinic using %s', wall, here);
    execute format('grant %s on %s to cliniq_clinic', clinic_may, wall);
    if person_may <> '' then
        execute format('create policy person on %s to cliniq_person using (%s)', wall, case person_sees
            when 'own' then clinics || ' and ' || patients
            when 'clinic' then clinics
            when 'shared' then clinics || ' and (patient_id is null or ' || patients || ')'
            when 'self' then person
            when 'written' then here
        end);
        execute format('grant %s on %s to cliniq_person', person_may, wall);
    end if;
end $$;

-- Let the platform into a walled table, by name and command.
create procedure admit_platform(wall regclass, platform_may text) language plpgsql as $$
begin
    execute format('create policy platform on %s to cliniq_platform using (true) with check (true)', wall);
    execute format('grant %s on %s to cliniq_platform', platform_may, wall);
end $$;

-- Which tables are cut by range, how, by which clock, and how far ahead. Upkeep and tests read this list.
create table partitioned (
    table_name text primary key,
    cut text not null check (cut in ('day', 'week', 'month')),
    clock text not null check (clock in ('clinic', 'wall')),
    ahead interval not null
);

-- Open the partitions that hold the given days and what comes after them. Each is walled in like its
-- parent: a partition queried by name obeys only its own policies, and nobody is granted any on it.
-- Idempotent. Boundaries are cut in UTC. Returns the names of the new ones. Waits half a second for a lock
-- and no longer: whoever comes after it would wait too; upkeep tries again.
create function open_partitions(clinic_day date, wall_day date) returns setof text
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '500ms' as $$
declare
    cutting record;
    part text;
    first_day timestamp;
    next_day timestamp;
    wall record;
begin
    if clinic_day is null or wall_day is null or clinic_day < date '1990-01-01' or wall_day < date '1990-01-01' then
        raise exception 'open_partitions: a day is missing or before 1990';
    end if;
    perform pg_advisory_xact_lock(hashtext('open_partitions'));
    for cutting in select * from partitioned order by table_name loop
        first_day := date_trunc(cutting.cut, (case cutting.clock when 'clinic' then clinic_day else wall_day end
            - interval '2 days')::timestamp);
        while first_day <= (case cutting.clock when 'clinic' then clinic_day else wall_day end) + cutting.ahead loop
            next_day := first_day + ('1 ' || cutting.cut)::interval;
            part := cutting.table_name || '_' || to_char(first_day, 'YYYYMMDD');
            if to_regclass(part) is null then
                execute format('create table %I partition of %I for values from (%L) to (%L)', part,
                    cutting.table_name, first_day::text || '+00', next_day::text || '+00');
                execute format('alter table %I enable row level security, force row level security', part);
                for wall in select policyname, roles, qual, with_check from pg_policies
                    where schemaname = 'public' and tablename = cutting.table_name
                loop
                    execute format('create policy %I on %I to %I using (%s)', wall.policyname, part,
                        wall.roles[1], wall.qual)
                        || coalesce(' with check (' || wall.with_check || ')', '');
                end loop;
                return next part;
            end if;
            first_day := next_day;
        end loop;
    end loop;
end $$;
grant execute on function open_partitions to cliniq_platform;
