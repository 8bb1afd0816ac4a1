-- Upkeep: who is at work on this database, and the life of partitions: opened, detached, archived, dropped.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Leases of processes, by wall time. `machine` is where `pid` and `born_at` mean something.
create table process (
    process_id uuid primary key,
    kind text not null check (kind in ('up', 'serve', 'worker')),
    host text not null,
    machine text not null,
    pid bigint not null,
    born_at timestamptz not null,
    has_redis boolean not null,
    started_at timestamptz not null,
    seen_at timestamptz not null
);
grant select, insert, update, delete on process to cliniq_platform;

-- How long a partition is kept after its end, NULL for ever; what must be true of it before it is dropped;
-- and how it is vacuumed. Two days at least: `open_partitions` opens those of the day before yesterday.
alter table partitioned
    add column keep interval check (keep >= interval '2 days'),
    add column parting text not null default 'archived' check (parting in ('archived', 'empty')),
    add column vacuuming text not null
        default 'autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02';
-- Rows leave the outbox as they are told: an old partition with rows in it holds what nobody was told.
update partitioned set keep = interval '2 days', parting = 'empty', vacuuming =
    'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02'
where table_name = 'outbox';

-- Partitions that were taken off their tables, and where each is now. The rows of a day can come twice, where
-- a clock went back.
create table detached_partition (
    part text not null,
    detached_at timestamptz not null,
    table_name text not null,
    archived_at timestamptz,
    address text,
    row_count bigint,
    digest text,
    primary key (part, detached_at),
    check (num_nulls(archived_at, address, row_count, digest) in (0, 4))
);
create unique index detached_partition_waiting on detached_partition (part) where archived_at is null;

-- As before, and: a policy is copied with all that it says, and the partition is vacuumed as its table asks.
create or replace function open_partitions(clinic_day date, wall_day date) returns setof text
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
                execute format('alter table %I set (%s)', part, cutting.vacuuming);
                for wall in select policyname, permissive, cmd, qual, with_check,
                        (select string_agg(quote_ident(role), ', ') from unnest(roles) as role) as roles
                    from pg_policies where schemaname = 'public' and tablename = cutting.table_name
                loop
                    execute format('create policy %I on %I as %s for %s to %s', wall.policyname, part,
                        wall.permissive, wall.cmd, wall.roles)
                        || coalesce(' using (' || wall.qual || ')', '')
                        || coalesce(' with check (' || wall.with_check || ')', '');
                end loop;
                return next part;
            end if;
            first_day := next_day;
        end loop;
    end loop;
end $$;

do $$
declare
    standing record;
begin
    for standing in select inhrelid::regclass as part, vacuuming
        from pg_inherits join partitioned on inhparent = to_regclass(table_name)
    loop
        execute format('alter table %s set (%s)', standing.part, standing.vacuuming);
    end loop;
end $$;

-- Every partition, and every former one that waits to be archived. `is_due`: its time has come by its table's
-- clock. `blocks`: its size on disk, by which it is read; `columns`: the header of its archive.
create function list_partitions(clinic_day date, wall_day date) returns table (
    part text, table_name text, parting text, starts_on date, ends_on date, is_attached boolean, is_due boolean,
    blocks bigint, columns text
) language sql stable security definer set search_path = public, pg_temp as $$
    select relname::text, t.table_name, t.parting, first_day, next_day, relispartition,
        coalesce(next_day + t.keep <= case t.clock when 'clinic' then clinic_day else wall_day end, false),
        pg_relation_size(c.oid) / current_setting('block_size')::bigint,
        (select string_agg(quote_ident(attname), ',' order by attnum) from pg_attribute
            where attrelid = c.oid and attnum > 0 and not attisdropped)
    from partitioned as t
    join pg_class as c on relnamespace = 'public'::regnamespace and relkind = 'r'
        and relname ~ ('^' || t.table_name || '_[0-9]{8}$')
    cross join lateral (select to_date(right(relname, 8), 'YYYYMMDD') as first_day) as named
    cross join lateral (select (first_day + ('1 ' || t.cut)::interval)::date as next_day) as cut
    where relispartition
        or exists (select from detached_partition as d where d.part = relname and archived_at is null)
    order by relname
$$;
grant execute on function list_partitions to cliniq_platform;

-- Take a partition off its table once its time has come; one that only has to be empty is dropped with that.
-- Answers what became of it: 'detached', 'dropped' or 'not empty'. Plain DETACH, since CONCURRENTLY is refused
-- in a function. Waits half a second for a lock and no longer: whoever comes after it would wait too.
create function detach_partition(which text, clinic_day date, wall_day date, wall timestamptz) returns text
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '500ms' as $$
declare
    leaving record;
    has_rows boolean;
begin
    if which is null or clinic_day is null or wall_day is null or wall is null then
        raise exception 'detach_partition: something is missing';
    end if;
    perform pg_advisory_xact_lock(hashtext('open_partitions'));
    select * into leaving from list_partitions(clinic_day, wall_day) where part = which and is_attached;
    if not found then
        raise exception 'detach_partition: % is no partition', which;
    elsif not leaving.is_due then
        raise exception 'detach_partition: % is to be kept', which;
    end if;
    if leaving.parting = 'empty' then
        execute format('select exists (select from %I)', which) into has_rows;
        if has_rows then
            return 'not empty';
        end if;
    end if;
    execute format('alter table %I detach partition %I', leaving.table_name, which);
    if leaving.parting = 'empty' then
        execute format('select exists (select from %I)', which) into has_rows; -- nobody can add any now
        if has_rows then
            raise exception 'detach_partition: % is not empty', which;
        end if;
        execute format('drop table %I', which);
        return 'dropped';
    end if;
    insert into detached_partition (part, detached_at, table_name) values (which, wall, leaving.table_name);
    return 'detached';
end $$;
grant execute on function detach_partition to cliniq_platform;

-- Rows of a detached partition as lines of CSV (RFC 4180; NULL is nothing, an empty text is ""), as they lie in
-- some of its blocks: one line may hold several line feeds, within quotes.
create function read_partition(which text, first_block bigint, blocks bigint) returns setof text
language plpgsql stable security definer set search_path = public, pg_temp set timezone = 'UTC'
set datestyle = 'ISO' set intervalstyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = '1' as $$
declare
    fields text;
begin
    if not exists (select from detached_partition where part = which and archived_at is null) then
        raise exception 'read_partition: % is not waiting to be archived', which;
    elsif first_block not between 0 and 4294966271 or blocks not between 1 and 1024 then
        raise exception 'read_partition: blocks out of bounds';
    end if;
    select string_agg(format('coalesce(''"'' || replace(%I::text, ''"'', ''""'') || ''"'', '''')', attname),
        ' || '','' || ' order by attnum) into fields
    from pg_attribute where attrelid = to_regclass(which) and attnum > 0 and not attisdropped;
    return query execute format('select %s from %I where ctid >= %L and ctid < %L order by ctid', fields, which,
        format('(%s,0)', first_block), format('(%s,0)', first_block + blocks));
end $$;
grant execute on function read_partition to cliniq_platform;

-- Let the following statements of this transaction take longer than the login's: a large table is counted.
create function take_time(minutes bigint) returns bigint
language plpgsql set search_path = public, pg_temp as $$
begin
    if minutes is null or minutes not between 1 and 60 then
        raise exception 'take_time: minutes out of bounds';
    end if;
    perform set_config('statement_timeout', minutes || 'min', true);
    return minutes;
end $$;
grant execute on function take_time to cliniq_platform;

-- Drop a detached partition whose archive was verified: its rows are counted once more, and the archive is
-- remembered. Answers with how many there were. A second call finds nothing to drop, and says so.
create function drop_partition(which text, rows bigint, sha256 text, stored_at text, wall timestamptz)
returns bigint language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '500ms' as $$
declare
    found_rows bigint;
begin
    if rows is null or sha256 !~ '^[0-9a-f]{64}$' or stored_at = '' or wall is null
        or num_nulls(sha256, stored_at) > 0 then
        raise exception 'drop_partition: the archive is not described';
    end if;
    perform from detached_partition where part = which and archived_at is null for update;
    if not found then
        raise exception 'drop_partition: % is not waiting to be archived', which;
    end if;
    execute format('select count(*) from %I', which) into found_rows;
    if found_rows <> rows then
        raise exception 'drop_partition: % has % rows and its archive %', which, found_rows, rows;
    end if;
    update detached_partition
    set archived_at = wall, address = stored_at, row_count = rows, digest = sha256
    where part = which and archived_at is null;
    execute format('drop table %I', which);
    return found_rows;
end $$;
grant execute on function drop_partition to cliniq_platform;
