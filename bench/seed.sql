-- One clinic of `seed.py`, with a history: written as a superuser, without checking foreign keys or running triggers.
-- $1 clinic, $2 its number, $3 patients, $4 days of history, $5 today, $6 sites, $7 practitioners, $8 seed, $9 names.
-- Words in braces are filled in; a line of two semicolons parts the statements.
insert into person (person_id, given_name, family_name, birth_date, language)
select {person}, names.given, names.family, date '1930-01-01' + (h % 30000)::int, 'en' from {everybody}
;;
insert into patient (clinic_id, patient_id, person_id, given_name, family_name, birth_date, gender, phone, mrn)
select $1, {patient}, {person}, names.given, names.family, date '1930-01-01' + (h % 30000)::int,
    case when h % 2 = 0 then 'female' else 'male' end, '+55 27 ' || h % 1000000, (i + 1)::text
from {everybody}
;;
insert into patient_identifier (clinic_id, system, value, kind, patient_id)
select $1, 'urn:seed:cards', n::text, 'MR', {patient} from {everybody}
;;
insert into booking (clinic_id, booking_id, patient_id, starts_at)
select $1, {appointment}, {patient}, {starts_at} from {visits}
;;
insert into appointment (clinic_id, appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at,
    ends_at, status, version)
select $1, {appointment}, {patient}, $7[1 + h % cardinality($7)], $6[1 + h % cardinality($6)], 'consultation',
    {starts_at}, {starts_at} + interval '12 minutes', case when h % 5 = 0 then 'no_show' else 'completed' end, 2
from {visits}
;;
insert into appointment_history (clinic_id, appointment_id, patient_id, version, changed_at, from_status, to_status,
    starts_at, actor_id, reason)
select $1, {appointment}, {patient}, step, {starts_at} - (2 - step) * interval '3 days',
    case step when 2 then 'booked' end,
    case when step = 1 then 'booked' when h % 5 = 0 then 'no_show' else 'completed' end, {starts_at}, null, ''
from {visits}, generate_series(1, 2) as step
