-- Rank: how many wait ahead, without counting them one by one. Decision 0025.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- A queue's order, cut into stretches: how many wait from this place on, up to where the next stretch begins.
-- The first begins before everybody. So a place's rank is the sum of the stretches before its own, and a count
-- within its own.
create table queue_stretch (
    clinic_id uuid not null default current_clinic(),
    queue_id uuid not null,
    rank bigint not null,
    due_at timestamptz not null,
    ticket bigint not null,
    waiting bigint not null check (waiting >= 0),
    primary key (clinic_id, queue_id, rank, due_at, ticket),
    foreign key (clinic_id, queue_id) references queue
) with (fillfactor = 70);

-- Nobody's to see or to change: the functions below do both.
alter table queue_stretch enable row level security, force row level security;
create policy owner on queue_stretch to current_user using (true) with check (true);

-- Count one more or one less in the stretch of a place.
create procedure count_in_stretch(place queue_entry, change bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare found_at queue_stretch;
begin
    select * into found_at from queue_stretch as s
    where s.clinic_id = place.clinic_id and s.queue_id = place.queue_id
        and (s.rank, s.due_at, s.ticket) <= (- place.priority, place.due_at, place.ticket)
    order by s.rank desc, s.due_at desc, s.ticket desc limit 1;
    if not found then
        insert into queue_stretch (clinic_id, queue_id, rank, due_at, ticket, waiting)
        values (place.clinic_id, place.queue_id, -9223372036854775808, '-infinity', 0, change);
    elsif found_at.waiting + change = 0 and found_at.due_at > '-infinity' then
        -- Whoever comes here later belongs to the stretch before.
        delete from queue_stretch as s
        where s.clinic_id = place.clinic_id and s.queue_id = place.queue_id
            and (s.rank, s.due_at, s.ticket) = (found_at.rank, found_at.due_at, found_at.ticket);
    else
        update queue_stretch as s set waiting = s.waiting + change
        where s.clinic_id = place.clinic_id and s.queue_id = place.queue_id
            and (s.rank, s.due_at, s.ticket) = (found_at.rank, found_at.due_at, found_at.ticket);
    end if;
end $$;

-- Cut what has grown too long into pieces of about half of what is allowed, as those who wait now stand.
create procedure cut_stretches(clinic uuid, line uuid)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    longest constant bigint := 128;
    long queue_stretch;
    piece bigint;
begin
    for long in
        select * from queue_stretch as s where s.clinic_id = clinic and s.queue_id = line and s.waiting > longest
    loop
        piece := ceil(long.waiting / (long.waiting * 2 / longest)::numeric);
        insert into queue_stretch (clinic_id, queue_id, rank, due_at, ticket, waiting)
        select clinic, line, w.rank, w.due_at, w.ticket, least(piece, long.waiting - w.place)
        from (
            select - e.priority as rank, e.due_at, e.ticket,
                row_number() over (order by (- e.priority), e.due_at, e.ticket) - 1 as place
            from queue_entry as e
            where e.clinic_id = clinic and e.queue_id = line and e.status = 'waiting'
                and (- e.priority, e.due_at, e.ticket) >= (long.rank, long.due_at, long.ticket)
            order by (- e.priority), e.due_at, e.ticket
            limit long.waiting
        ) as w
        where w.place > 0 and w.place % piece = 0;
        update queue_stretch as s set waiting = piece
        where s.clinic_id = clinic and s.queue_id = line
            and (s.rank, s.due_at, s.ticket) = (long.rank, long.due_at, long.ticket);
    end loop;
end $$;

-- Whoever comes is counted at once, and once a statement: a cut needs the table and the counts to agree. The
-- queue is held until COMMIT, so one transaction at a time moves its stretches, and each statement sees all that
-- was committed before.
create function follow_who_comes() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    each queue_entry;
    line record;
begin
    perform from queue as q where (q.clinic_id, q.queue_id) in (select c.clinic_id, c.queue_id from come as c)
    order by q.clinic_id, q.queue_id for no key update;
    for each in select * from come as c where c.status = 'waiting' loop
        call count_in_stretch(each, 1);
    end loop;
    if current_setting('cliniq.queue_moves', true) = 'yes' then
        return null;  -- what moved before is not counted yet: whoever comes next may cut
    end if;
    for line in select distinct c.clinic_id, c.queue_id from come as c loop
        call cut_stretches(line.clinic_id, line.queue_id);
    end loop;
    return null;
end $$;

-- Whoever is called, or waits in another place, is counted at COMMIT, when the queue is held anyway: held from
-- the call on, callers would wait for each other. Until then this transaction counts heads.
create function note_move() returns trigger language plpgsql as $$
begin
    perform set_config('cliniq.queue_moves', 'yes', true);
    return null;
end $$;

create function follow_who_moves() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform from queue as q where q.clinic_id = old.clinic_id and q.queue_id = old.queue_id for no key update;
    if old.status = 'waiting' then
        call count_in_stretch(old, -1);
    end if;
    if tg_op = 'UPDATE' and new.status = 'waiting' then
        call count_in_stretch(new, 1);
    end if;
    return null;
end $$;

create trigger follow_who_comes after insert on queue_entry
referencing new table as come for each statement execute function follow_who_comes();
create trigger note_move after update on queue_entry for each row
when (old.status = 'waiting' or new.status = 'waiting') execute function note_move();
create trigger note_end after delete on queue_entry for each row
when (old.status = 'waiting') execute function note_move();
create constraint trigger follow_who_moves after update on queue_entry deferrable initially deferred for each row
when (old.status = 'waiting' or new.status = 'waiting') execute function follow_who_moves();
create constraint trigger follow_who_goes after delete on queue_entry deferrable initially deferred for each row
when (old.status = 'waiting') execute function follow_who_moves();

-- Those who wait already. The triggers hold the table until COMMIT, so nobody is missed.
insert into queue_stretch (clinic_id, queue_id, rank, due_at, ticket, waiting)
select e.clinic_id, e.queue_id, -9223372036854775808, '-infinity', 0, count(*)
from queue_entry as e where e.status = 'waiting' group by e.clinic_id, e.queue_id;
do $$
declare line record;
begin
    for line in select s.clinic_id, s.queue_id from queue_stretch as s loop
        call cut_stretches(line.clinic_id, line.queue_id);
    end loop;
end $$;

-- How many wait ahead of an entry, as before (0009): numbers only, counted outside the patient's wall.
create or replace function count_ahead(mine queue_entry) returns bigint
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    own queue_stretch;
    before bigint;
begin
    if not is_seated_in(mine.clinic_id) then
        return 0;
    elsif current_setting('cliniq.queue_moves', true) = 'yes' then
        return (
            select count(*) from queue_entry as ahead
            where ahead.clinic_id = mine.clinic_id and ahead.queue_id = mine.queue_id and ahead.status = 'waiting'
                and (- ahead.priority, ahead.due_at, ahead.ticket) < (- mine.priority, mine.due_at, mine.ticket)
        );
    end if;
    select * into own from queue_stretch as s
    where s.clinic_id = mine.clinic_id and s.queue_id = mine.queue_id
        and (s.rank, s.due_at, s.ticket) <= (- mine.priority, mine.due_at, mine.ticket)
    order by s.rank desc, s.due_at desc, s.ticket desc limit 1;
    select coalesce(sum(s.waiting), 0) into before from queue_stretch as s
    where s.clinic_id = mine.clinic_id and s.queue_id = mine.queue_id
        and (s.rank, s.due_at, s.ticket) < (own.rank, own.due_at, own.ticket);
    return before + (
        select count(*) from queue_entry as ahead
        where ahead.clinic_id = mine.clinic_id and ahead.queue_id = mine.queue_id and ahead.status = 'waiting'
            and (- ahead.priority, ahead.due_at, ahead.ticket) >= (own.rank, own.due_at, own.ticket)
            and (- ahead.priority, ahead.due_at, ahead.ticket) < (- mine.priority, mine.due_at, mine.ticket)
    );
end $$;
