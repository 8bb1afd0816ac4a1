-- Rooms: what a clinic knows of a real patient, its own numbers for them, and visits that come from elsewhere.
set local lock_timeout = '5s';
set local statement_timeout = '600s';

-- What a name is sorted and searched by: lower-cased, without accents.
create function fold_name(name text) returns text
language sql immutable strict parallel safe set search_path = pg_catalog
return lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036f]', '', 'g'));
grant execute on function fold_name to cliniq_clinic, cliniq_person;

-- `language` is what the clinic was told. The person has one too, for the whole installation, which no clinic
-- may read or change. `search_name` is the database's own work, so that an older release's rows have it as well.
alter table patient
    add column gender text check (gender in ('male', 'female', 'other', 'unknown')),
    add column phone text,
    add column email text,
    add column address text,
    add column language text,
    add column deceased_on date,
    add column mrn text collate "C";
alter table patient
    add column search_name text collate "C" not null
    -- squawk-ignore adding-field-with-default
    generated always as (fold_name(family_name || ' ' || given_name)) stored;

-- The last number that was drawn as a patient's record number (MRN), or that a file brought. Whoever gives
-- patients their numbers holds this row until COMMIT.
create table mrn_roll (
    clinic_id uuid primary key default current_clinic() references clinic,
    last_number bigint not null default 0
);
call wall_in('mrn_roll', 'select, insert, update');

-- Draw record numbers that nobody in the clinic has.
create function draw_mrns(wanted bigint, clinic uuid default current_clinic()) returns setof text
language plpgsql set search_path = public, pg_temp as $$
declare
    missing bigint := wanted;
    last bigint;
    drawn text;
begin
    while missing > 0 loop
        insert into mrn_roll as roll (clinic_id, last_number) values (clinic, missing)
        on conflict (clinic_id) do update set last_number = roll.last_number + missing
        returning last_number into last;
        for drawn in
            select number::text from generate_series(last - missing + 1, last) as number
            where not exists (select from patient as p where p.clinic_id = clinic and p.mrn = number::text)
        loop
            missing := missing - 1;
            return next drawn;
        end loop;
    end loop;
end $$;
grant execute on function draw_mrns to cliniq_clinic;

-- Whoever comes without a number gets the next one.
create function give_mrn() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    new.mrn := draw_mrns(1, new.clinic_id);
    return new;
end $$;
create trigger give_mrn before insert on patient for each row when (new.mrn is null) execute function give_mrn();

update patient as p set mrn = numbered.number::text
from (
    select clinic_id, patient_id, row_number() over (partition by clinic_id order by patient_id) as number
    from patient
) as numbered
where (numbered.clinic_id, numbered.patient_id) = (p.clinic_id, p.patient_id);
insert into mrn_roll (clinic_id, last_number) select clinic_id, count(*) from patient group by clinic_id;
-- Numbered above, while nobody else could write.
-- squawk-ignore adding-not-nullable-field
alter table patient alter column mrn set not null;
-- The table was rewritten above, so that nobody can read it anyway: its indexes are built in the same pause.
-- squawk-ignore require-concurrent-index-creation
create unique index patient_mrn on patient (clinic_id, mrn);
-- squawk-ignore require-concurrent-index-creation
create index patient_name on patient (clinic_id, search_name, patient_id);
-- squawk-ignore require-concurrent-index-creation
create index patient_birth on patient (clinic_id, birth_date, search_name, patient_id);

-- How others number a patient (FHIR Identifier): `system` says who numbers, `kind` what (HL7 table 0203).
create table patient_identifier (
    clinic_id uuid not null default current_clinic(),
    system text collate "C" not null,
    value text collate "C" not null,
    kind text,
    patient_id uuid not null,
    primary key (clinic_id, system, value),
    foreign key (clinic_id, patient_id) references patient
);
create index patient_identifier_patient on patient_identifier (clinic_id, patient_id);
call wall_in('patient_identifier', 'select, insert', 'select', 'own');

-- By what a file calls a visit, so that a second reading recognises it. Written before the visit, and taken back
-- where that is refused: of two who bring the same visit, one waits here for the other.
create table appointment_reference (
    clinic_id uuid not null default current_clinic(),
    reference text collate "C" not null,
    appointment_id uuid not null,
    primary key (clinic_id, reference),
    foreign key (clinic_id, appointment_id) references booking deferrable initially deferred
);
create unique index appointment_reference_appointment on appointment_reference (clinic_id, appointment_id);
call wall_in('appointment_reference', 'select, insert, delete');

-- Many visits claim their time first, and only those that got it are written.
alter table claim alter constraint claim_clinic_id_booking_id_fkey deferrable initially deferred;

-- A file says what became of a visit, not who did it; nor is anybody signed in where the operator reads it.
-- squawk-ignore ban-drop-not-null
alter table appointment_history alter column actor_id drop not null;
