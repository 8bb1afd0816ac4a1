-- Patients: a person in a clinic, and those who act for them. Then the seats, which need all of it.
set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table patient (
    clinic_id uuid not null default current_clinic() references clinic,
    patient_id uuid not null,
    person_id uuid not null references person,
    given_name text not null,
    family_name text not null,
    birth_date date,
    primary key (clinic_id, patient_id),
    unique (clinic_id, person_id)
);
create index patient_person on patient (person_id);

-- `guardian_id` (a person) may act for the patient in this clinic until `ended_at`.
create table guardianship (
    clinic_id uuid not null default current_clinic(),
    patient_id uuid not null,
    guardian_id uuid not null references person,
    relationship text not null check (relationship in ('parent', 'guardian', 'carer')),
    started_at timestamptz not null,
    ended_at timestamptz,
    primary key (clinic_id, patient_id, guardian_id),
    foreign key (clinic_id, patient_id) references patient
);
create index guardianship_guardian on guardianship (guardian_id) where ended_at is null;

call wall_in('patient', 'select, insert, update', 'select', 'own');
call wall_in('guardianship', 'select, insert, update', 'select', 'own');

-- Refuse a caller whose sign-in has ended, or whose account is closed.
create procedure prove_session(person uuid, proof uuid, wall timestamptz)
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform from session as s join account as a on a.person_id = s.person_id and a.status = 'active'
    where s.person_id = person and s.session_id = proof and s.ended_at is null and s.expires_at > wall;
    if not found then
        raise 'no session' using errcode = 'CQ401';
    end if;
end $$;

-- Seat a member of staff: name the clinic of this transaction for who holds the permission there.
create procedure take_seat(clinic uuid, person uuid, proof uuid, wanted text, wall timestamptz)
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
    perform set_config('cliniq.clinic_id', clinic::text, true);
end $$;

-- Seat a person: name whose rows are theirs, in one clinic (to write) or in all (`clinic` NULL, to read).
-- `strict` refuses who is no patient's in that clinic; `unless` refuses who holds that permission there and
-- so is to be seated as staff, whatever they are besides.
create procedure take_own_seat(
    clinic uuid, person uuid, proof uuid, strict boolean, unless text, wall timestamptz
)
language plpgsql security definer set search_path = public, pg_temp as $$
declare mine uuid[]; clinics uuid[];
begin
    call prove_session(person, proof, wall);
    if unless is not null and exists (
        select from membership as m join role_grant as g on g.role = m.role and g.permission = unless
        where m.clinic_id = clinic and m.person_id = person
    ) then
        raise 'staff here' using errcode = 'CQ404';
    end if;
    select coalesce(array_agg(own.patient_id), '{}'), coalesce(array_agg(distinct own.clinic_id), '{}')
    into mine, clinics
    from (
        select p.clinic_id, p.patient_id from patient as p
        where p.person_id = person and (clinic is null or p.clinic_id = clinic)
        union all
        select g.clinic_id, g.patient_id from guardianship as g
        where g.guardian_id = person and g.ended_at is null and (clinic is null or g.clinic_id = clinic)
    ) as own;
    if clinic is null then
        clinics := clinics || array(select distinct m.clinic_id from membership as m where m.person_id = person);
    elsif strict and mine = '{}' then
        raise 'no patient here' using errcode = 'CQ404';
    else
        clinics := array[clinic];
    end if;
    perform set_config('cliniq.person_id', person::text, true),
        set_config('cliniq.patients', mine::text, true),
        set_config('cliniq.clinics', clinics::text, true),
        set_config('cliniq.clinic_id', coalesce(clinic::text, ''), true);
end $$;

-- Remember a refusal after its transaction was rolled back: in the clinic's audit, or where there is no
-- such clinic among the installation's security events.
create procedure record_denial(
    clinic uuid, id uuid, actor uuid, permission text, action text, code text, request text,
    happened timestamptz, wall timestamptz
)
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if exists (select from clinic as c where c.clinic_id = clinic) then
        insert into audit (clinic_id, audit_id, recorded_at, happened_at, actor_id, permission, action, outcome,
            code, entity_type, request_id)
        values (clinic, id, wall, happened, actor, permission, action, 'denied', code, 'request', request);
    else
        insert into security_event (event_id, recorded_at, actor_id, action, code, request_id)
        values (id, wall, actor, action, code, request);
    end if;
end $$;

grant execute on procedure take_seat to cliniq_clinic;
grant execute on procedure take_own_seat to cliniq_person;
grant execute on procedure record_denial to cliniq_platform;

-- A clinic enrols people whom the installation does not know yet; it cannot read the table of all people.
create policy enrol on person for insert to cliniq_clinic with check (true);
grant insert on person to cliniq_clinic;
