"""What the database must look like: who sees what, who may do what, what may lack the clinic."""

import re
from collections.abc import Iterable, Iterator

SEATS = {"cliniq_clinic", "cliniq_person", "cliniq_platform"}
ROLES = SEATS | {"cliniq_owner", "cliniq_app"}

# Who sees which rows: `here` of the acting clinic, `clinics` of the seat's clinics, `own` of the
# seat's patients there, `shared` nobody's or own, `self` of the person, `mine` of the person in the
# acting clinic, `all`, and `new` to insert whatever one likes without seeing it. The owner sees
# all, everywhere, or backfills change nothing.
WALLS = """
appointment          clinic=here person=own
appointment_history  clinic=here person=own
appointment_reference clinic=here
audit                clinic=here person=here
booking              clinic=here person=own
check_in             clinic=here person=own
check_in_claim       clinic=here person=own
check_in_point       clinic=here person=clinics
check_in_rule        clinic=here person=clinics
claim                clinic=here person=own
clinic               clinic=here person=clinics platform=all
guardianship         clinic=here person=own
idempotency_key      clinic=mine person=mine
import_file          clinic=here
import_remark        clinic=here
import_run           clinic=here
job_turn
membership           clinic=here person=self platform=all
mrn_roll             clinic=here
outbox               clinic=here person=here platform=all
outbox_held          platform=all
patient              clinic=here person=own
patient_identifier   clinic=here person=own
person               clinic=new person=self platform=all
practitioner         clinic=here person=clinics
queue                clinic=here person=clinics
queue_entry          clinic=here person=own
queue_stretch
resource             clinic=here person=shared
security_event       platform=all
site                 clinic=here person=clinics
"""
# Of the installation, not of a clinic, and in nobody's sight but the platform's, if that.
UNWALLED = set(
    "account detached_partition installation_role job_pace job_progress job_tick limit_window "
    "live_epoch live_pass outgoing_message partitioned process rehearsal relay relay_lease "
    "role_grant schema_step session".split()
)
# Not our tables: as pgqueuer makes them, so that its release and our migration can be compared.
# They hold ids and words of our own; who may read a clinic's jobs is the platform alone.
OF_PGQUEUER = set("pgqueuer pgqueuer_log pgqueuer_schedules pgqueuer_statistics".split())
UNWALLED |= OF_PGQUEUER
CUT_BY_RANGE = {
    "appointment",
    "appointment_history",
    "audit",
    "check_in",
    "outbox",
    "security_event",
}

# Who may do what; `table.column` where it is one column only. Nobody may do anything else.
GRANTS = """
clinic   appointment          select insert update
clinic   appointment_history  select insert
clinic   appointment_reference select insert delete
clinic   audit                select insert
clinic   booking              select insert update
clinic   check_in             select insert
clinic   check_in_claim       select insert delete
clinic   check_in_point       select insert update
clinic   check_in_rule        select insert update delete
clinic   claim                select insert delete
clinic   clinic               select update
clinic   guardianship         select insert update
clinic   idempotency_key      select insert
clinic   import_file          select insert delete
clinic   import_remark        select insert
clinic   import_run           select insert update
clinic   membership           select insert delete
clinic   mrn_roll             select insert update
clinic   outbox               insert
clinic   outgoing_message     insert
clinic   outbox_number        usage
clinic   patient              select insert update
clinic   patient_identifier   select insert
clinic   person               insert
clinic   practitioner         select insert update
clinic   queue                select insert update
clinic   queue_entry          select insert update
clinic   resource             select insert
clinic   site                 select insert update
person   appointment          select insert update
person   appointment_history  select insert
person   audit                insert
person   booking              select insert update
person   check_in             select insert
person   check_in_claim       select insert
person   check_in_point       select
person   check_in_rule        select
person   claim                select insert delete
person   clinic               select
person   guardianship         select
person   idempotency_key      select insert
person   membership           select
person   outbox               insert
person   outgoing_message     insert
person   outbox_number        usage
person   patient              select
person   patient_identifier   select
person   person               select
person   practitioner         select
person   queue                select insert
person   queue.last_ticket    update
person   queue.version        update
person   queue_entry          select insert
person   resource             select insert
person   site                 select
platform account              select insert update
platform clinic               select insert
platform limit_window         select insert update delete
platform live_epoch           select
platform job_pace             select insert update
platform job_progress         select insert update delete
platform job_tick             select insert update
platform live_pass            select insert delete
platform membership           select insert
platform outbox               select insert delete
platform outgoing_message     select insert delete
platform outbox.is_forwarded  update
platform outbox_held          select insert delete
platform person               select insert update
platform relay                select insert update delete
platform relay_lease          select update
platform pgqueuer             select update delete
platform pgqueuer_log         select insert delete
platform process              select insert update delete
platform rehearsal            select
platform schema_step          select
platform security_event       insert
platform session              select insert update
clinic   public               usage
person   public               usage
platform public               usage
clinic   claim_key()          execute
clinic   count_ahead()        execute
clinic   current_clinic()     execute
clinic   current_person()     execute
clinic   draw_mrns()          execute
clinic   finish_job()         execute
clinic   fold_name()          execute
clinic   promise_jobs()       execute
clinic   show_board()         execute
clinic   slot_span()          execute
clinic   take_seat()          execute
clinic   take_work_seat()     execute
person   claim_key()          execute
person   count_ahead()        execute
person   current_clinic()     execute
person   current_person()     execute
person   fold_name()          execute
person   promise_jobs()       execute
person   show_board()         execute
person   slot_span()          execute
person   take_own_seat()      execute
platform current_clinic()     execute
platform detach_partition()   execute
platform drop_partition()     execute
platform drop_stale_keys()    execute
platform finish_job()         execute
platform list_partitions()    execute
platform open_partitions()    execute
platform promise_any_jobs()   execute
platform rank_jobs()          execute
platform read_partition()     execute
platform record_denial()      execute
platform take_time()          execute
platform wind_back_turns()    execute
"""
# What runs as the owner, above the walls: the seats, numbers without people, upkeep.
DEFINERS = set(
    "count_ahead count_in_stretch cut_stretches detach_partition drop_partition drop_stale_keys "
    "finish_job follow_who_comes follow_who_moves list_partitions open_partitions "
    "promise_any_jobs promise_jobs prove_session rank_jobs read_partition record_denial "
    "show_board take_own_seat take_seat take_work_seat wind_back_turns".split()
)

# Keys that may do without the clinic: persons and accounts belong to the installation.
FREE_KEYS = {
    ("guardianship", "person"),
    ("membership", "account"),
    ("patient", "person"),
    ("practitioner", "person"),
}
FREE_UNIQUES = {("clinic", "app_name")}
EXCLUSIONS = {("claim", "no_overlap")}  # its number is the whole server's, so it tells nothing

_NULLIF = "NULLIF(current_setting('cliniq.{}'::text, true), ''::text)"
_ONE = "( SELECT (" + _NULLIF + ')::uuid AS "nullif")'
_MANY = "ANY ((( SELECT " + _NULLIF + ' AS "nullif"))::uuid[])'
_CLINICS = f"clinic_id = {_MANY.format('clinics')}"
_PATIENTS = f"patient_id = {_MANY.format('patients')}"
SEEN = {
    "true": "all",
    f"(clinic_id = {_ONE.format('clinic_id')})": "here",
    f"(person_id = {_ONE.format('person_id')})": "self",
    f"((clinic_id = {_ONE.format('clinic_id')}) AND (person_id = {_ONE.format('person_id')}))": (
        "mine"
    ),
    f"({_CLINICS})": "clinics",
    f"(({_CLINICS}) AND ({_PATIENTS}))": "own",
    f"(({_CLINICS}) AND ((patient_id IS NULL) OR ({_PATIENTS})))": "shared",
}

# Jobs wait by the server's clock, which is one for all workers.
BY_THE_SERVERS_CLOCK = OF_PGQUEUER | {"put_jobs", "rank_jobs"}
# Both clocks are injected; SQL that reads the server's own would bypass them.
CLOCK = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\(|"
    r"\b(?:current_date|current_time|current_timestamp|localtime|localtimestamp)\b|"
    r"'(?:now|today|tomorrow|yesterday)'",
    re.IGNORECASE,
)


def same(found: Iterable[object], declared: Iterable[object]) -> None:
    """Compare as sets, and say what differs."""
    here, there = set(found), set(declared)
    assert here == there, {"too much": here - there, "missing": there - here}


def lines(block: str) -> Iterator[list[str]]:
    return (line.split() for line in block.strip().splitlines())
