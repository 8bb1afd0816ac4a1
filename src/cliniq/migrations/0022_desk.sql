-- Desk: staff check somebody in, take a walk-in, and say that somebody did not come.
set local lock_timeout = '5s';
set local statement_timeout = '600s';

-- At the desk nothing is scanned, so there is no point.
-- squawk-ignore ban-drop-not-null
alter table check_in alter column check_in_point_id drop not null;

-- Held for what is written from now on; the next file looks at the rows that are there.
alter table check_in add constraint check_in_method
check (method in ('rotating_code', 'printed_code', 'desk')) not valid;
alter table queue_entry add constraint queue_entry_state
check (status in ('waiting', 'called', 'in_progress', 'completed', 'no_show')) not valid;
