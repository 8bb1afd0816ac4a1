-- Answers kept for whoever asks again with the same key; and hits counted here while Redis is away.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Who acts in this transaction. NULL, never an error, before a seat was taken.
create function current_person() returns uuid language sql stable
return nullif(current_setting('cliniq.person_id', true), '')::uuid;
grant execute on function current_person to cliniq_clinic, cliniq_person;

-- As before (0006), and names who sits there: what is kept for a member of staff is theirs, not the clinic's.
create or replace procedure take_seat(clinic uuid, person uuid, proof uuid, wanted text, wall timestamptz)
language plpgsql security definer set search_path = public, pg_temp as $$
declare granted boolean;
begin
    call prove_session(person, proof, wall);
    select bool_or(g.permission is not null) into granted
    from membership as m left join role_grant as g on g.role = m.role and g.permission = wanted
    where m.clinic_id = clinic and m.person_id = person;
    if granted is not true and exists (
        select from installation_role as i join role_grant as g on g.role = i.role and g.permission = wanted
        where i.person_id = person
    ) and exists (select from clinic as c where c.clinic_id = clinic) then
        granted := true;
    end if;
    if granted is null then
        raise 'not a member' using errcode = 'CQ404';
    elsif not granted then
        raise 'not granted' using errcode = 'CQ403';
    end if;
    perform set_config('cliniq.clinic_id', clinic::text, true), set_config('cliniq.person_id', person::text, true);
end $$;

-- What was answered to a key. `answer` is NULL once it is too old to be given again; the row stays a while to
-- say so.
create table idempotency_key (
    clinic_id uuid not null default current_clinic(),
    person_id uuid not null default current_person(),
    route text collate "C" not null,
    key text collate "C" not null check (length(key) between 1 and 255),
    fingerprint bytea not null,
    status bigint not null check (status between 200 and 299),
    media_type text,
    answer bytea,
    stored_at timestamptz not null,
    primary key (clinic_id, person_id, route, key)
);
create index idempotency_key_kept on idempotency_key (stored_at) where answer is not null;
create index idempotency_key_spent on idempotency_key (stored_at) where answer is null;

alter table idempotency_key enable row level security, force row level security;
create policy owner on idempotency_key to current_user using (true) with check (true);
create policy clinic on idempotency_key to cliniq_clinic using (
    clinic_id = (select nullif(current_setting('cliniq.clinic_id', true), '')::uuid)
    and person_id = (select nullif(current_setting('cliniq.person_id', true), '')::uuid)
);
create policy person on idempotency_key to cliniq_person using (
    clinic_id = (select nullif(current_setting('cliniq.clinic_id', true), '')::uuid)
    and person_id = (select nullif(current_setting('cliniq.person_id', true), '')::uuid)
);
grant select, insert on idempotency_key to cliniq_clinic, cliniq_person;

-- Take a key, or say what stands against it: an answer that is kept, or a rival who holds it. No row and
-- `is_free`: it is held until COMMIT. The second look is needed: a rival may have committed between the first
-- one and the lock. Statements of a volatile function each see what has been committed by then.
create function claim_key(asked_route text, asked_key text)
returns table (is_free boolean, fingerprint bytea, status bigint, media_type text, answer bytea, stored_at timestamptz)
language plpgsql volatile as $$
declare held boolean := false;
begin
    for look in 1..2 loop
        return query select false, k.fingerprint, k.status, k.media_type, k.answer, k.stored_at
        from idempotency_key as k where k.route = asked_route and k.key = asked_key;
        if found then
            return;
        end if;
        held := held or pg_try_advisory_xact_lock(hashtextextended(
            concat_ws('/', current_clinic(), current_person(), asked_route, asked_key), 0));
        exit when not held;
    end loop;
    return query select held, null::bytea, null::bigint, null::text, null::bytea, null::timestamptz;
end $$;
grant execute on function claim_key to cliniq_clinic, cliniq_person;

-- Empty answers that are too old to be given again, and drop keys that need no longer be known; so many at
-- most. Returns how many there were: whoever calls comes again until there are none.
create function drop_stale_keys(spent_before timestamptz, gone_before timestamptz, most bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare emptied bigint; dropped bigint;
begin
    update idempotency_key set answer = null where ctid = any (array(
        select ctid from idempotency_key where answer is not null and stored_at <= spent_before
        order by stored_at limit most for update skip locked
    ));
    get diagnostics emptied = row_count;
    delete from idempotency_key where ctid = any (array(
        select ctid from idempotency_key where answer is null and stored_at <= gone_before
        order by stored_at limit most for update skip locked
    ));
    get diagnostics dropped = row_count;
    return emptied + dropped;
end $$;
grant execute on function drop_stale_keys to cliniq_platform;

-- Hits in a window that slides, while Redis is away: whose they are is a keyed hash. `slot` counts windows.
create table limit_window (
    rule text collate "C" not null,
    key_hash bytea not null,
    slot bigint not null,
    hits bigint not null,
    hits_before bigint not null default 0,
    counted_at timestamptz not null,
    primary key (key_hash, rule)
);
create index limit_window_age on limit_window (counted_at);
grant select, insert, update, delete on limit_window to cliniq_platform;
