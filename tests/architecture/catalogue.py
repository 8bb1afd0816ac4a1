"""Checks that compare the database's catalogue with what is declared.

Every check takes a superuser's connection and raises AssertionError, with what differs.
"""

import re
from typing import TypeAlias

import asyncpg

from tests.architecture.declared import (
    BY_THE_SERVERS_CLOCK,
    CLOCK,
    CUT_BY_RANGE,
    DEFINERS,
    EXCLUSIONS,
    FREE_KEYS,
    FREE_UNIQUES,
    GRANTS,
    ROLES,
    SEATS,
    SEEN,
    UNWALLED,
    WALLS,
    lines,
    same,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_NOT_OURS = "nspname !~ '^pg_' and nspname <> 'information_schema'"


async def check_every_table_is_walled_or_named(db: Connection) -> None:
    tables = await db.fetch(f"""
        select relname, relkind, relispartition, relrowsecurity and relforcerowsecurity as walled,
            (select attnotnull from pg_attribute where attrelid = c.oid and attname = 'clinic_id')
                is not null as of_clinic
        from pg_class as c join pg_namespace as n on n.oid = relnamespace
        where relkind in ('r', 'p', 'f', 'm', 'v') and {_NOT_OURS}
    """)  # noqa: S608 - our own words
    walled = {table for table, *_ in lines(WALLS)}
    whole = [each for each in tables if not each["relispartition"]]
    same((each["relname"] for each in whole if each["walled"]), walled)
    same((each["relname"] for each in whole if not each["walled"]), UNWALLED)
    same(
        (each["relname"] for each in whole if each["of_clinic"]),
        walled - {"person", "security_event"},
    )
    parts = [each for each in tables if each["relispartition"]]
    same((each["relname"] for each in parts if each["of_clinic"] and not each["walled"]), ())
    assert len(parts) > len(CUT_BY_RANGE)


async def check_policies(db: Connection) -> None:
    """Compare what each role sees of each table; the owner included."""
    declared: set[tuple[str, ...]] = set()
    for table, *seen in lines(WALLS):
        declared.add((table, "cliniq_owner", "ALL", "all", "all"))
        for role, kind in (each.split("=") for each in seen):
            terms = {"all": ("ALL", "all", "all"), "new": ("INSERT", "-", "all")}
            declared.add((table, f"cliniq_{role}", *terms.get(kind, ("ALL", kind, "-"))))
    found = await db.fetch("""
        select tablename, roles::text[], cmd, coalesce(qual, '-') as qual,
            coalesce(with_check, '-') as checked, permissive
        from pg_policies where not (select relispartition from pg_class
            where oid = format('%I.%I', schemaname, tablename)::regclass)
    """)
    same(
        (
            (
                each["tablename"],
                *each["roles"],
                each["cmd"],
                SEEN.get(each["qual"], each["qual"]),
                SEEN.get(each["checked"], each["checked"]),
            )
            for each in found
        ),
        declared,
    )
    same((each["permissive"] for each in found), {"PERMISSIVE"})


async def check_partitions_carry_their_parents_walls(db: Connection) -> None:
    """A partition that is queried by name obeys only its own policies."""
    astray = await db.fetch("""
        with policy as (
            select polrelid, array_agg(concat_ws(' ', polname, polcmd, polpermissive,
                polroles::text, pg_get_expr(polqual, polrelid),
                pg_get_expr(polwithcheck, polrelid)) order by polname) as wall
            from pg_policy group by polrelid
        )
        select part.relname
        from pg_inherits
        join pg_class as part on part.oid = inhrelid and part.relkind in ('r', 'p')
        join pg_class as whole on whole.oid = inhparent
        left join policy as mine on mine.polrelid = part.oid
        left join policy as theirs on theirs.polrelid = whole.oid
        where mine.wall is distinct from theirs.wall
            or part.relrowsecurity <> whole.relrowsecurity
            or part.relforcerowsecurity <> whole.relforcerowsecurity
    """)
    same((each["relname"] for each in astray), ())


async def check_grants(db: Connection) -> None:
    """Compare what everybody but the owner may do; partitions are for nobody."""
    declared = {
        (f"cliniq_{role}", thing, word, False)
        for role, thing, *words in lines(GRANTS)
        for word in words
    }
    found = await db.fetch(f"""
        with thing (owner, name, acl) as (
            select relowner, relname::text, relacl
            from pg_class join pg_namespace as n on n.oid = relnamespace where {_NOT_OURS}
            union all
            select relowner, relname || '.' || attname, attacl
            from pg_attribute join pg_class as c on c.oid = attrelid
            join pg_namespace as n on n.oid = relnamespace where {_NOT_OURS}
            union all
            select proowner, proname || '()', coalesce(proacl, acldefault('f', proowner))
            from pg_proc join pg_namespace as n on n.oid = pronamespace where {_NOT_OURS}
            union all
            select nspowner, nspname::text, coalesce(nspacl, acldefault('n', nspowner))
            from pg_namespace where {_NOT_OURS}
        )
        select case grantee when 0 then 'everybody' else grantee::regrole::text end,
            name, lower(privilege_type), is_grantable
        from thing, aclexplode(acl) where grantee <> owner
    """)  # noqa: S608 - our own words
    same(map(tuple, found), declared)


async def check_definers(db: Connection) -> None:
    """What runs as the owner is named, and looks for tables where the owner put them."""
    found = await db.fetch(f"""
        select proname, proconfig from pg_proc join pg_namespace as n on n.oid = pronamespace
        where prosecdef and {_NOT_OURS}
    """)  # noqa: S608 - our own words
    same((each["proname"] for each in found), DEFINERS)
    paths = {
        setting
        for each in found
        for setting in each["proconfig"] or ["nothing is set"]
        if not setting.startswith("lock_timeout=")
    }
    same(paths, {"search_path=public, pg_temp"})


async def check_owner_owns_everything(db: Connection) -> None:
    owners = await db.fetch(f"""
        select relname as name, relowner::regrole::text as owner
        from pg_class join pg_namespace as n on n.oid = relnamespace where {_NOT_OURS}
        union all
        select proname, proowner::regrole::text
        from pg_proc join pg_namespace as n on n.oid = pronamespace where {_NOT_OURS}
        union all
        select datname, datdba::regrole::text from pg_database where datname = current_database()
        union all
        select nspname, nspowner::regrole::text from pg_namespace as n where {_NOT_OURS}
    """)  # noqa: S608 - our own words
    astray = [each for each in owners if each["owner"] != "cliniq_owner"]
    same(map(tuple, astray), {("public", "pg_database_owner")})  # who owns the database


async def check_roles_are_humble(db: Connection) -> None:
    roles = await db.fetch("""
        select rolname, rolcanlogin, rolinherit, rolsuper or rolbypassrls or rolcreatedb
            or rolcreaterole or rolreplication as proud
        from pg_roles where rolname = any($1)
    """, list(ROLES))  # fmt: skip
    same((each["rolname"] for each in roles), ROLES)
    same((each["rolname"] for each in roles if each["proud"]), ())
    same((each["rolname"] for each in roles if each["rolcanlogin"]), {"cliniq_owner", "cliniq_app"})
    same((each["rolname"] for each in roles if not each["rolinherit"]), {"cliniq_app"})
    belong = await db.fetch("""
        select member::regrole::text as member, roleid::regrole::text as of,
            coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, false) as inherits, admin_option
        from pg_auth_members as m where member::regrole::text = any($1)
    """, list(ROLES))  # fmt: skip
    same(map(tuple, belong), {("cliniq_app", seat, False, False) for seat in SEATS})


async def check_keys_carry_the_clinic(db: Connection) -> None:
    """A foreign key without the clinic would cross tenants unseen; one into a partition pins it."""
    keys = await db.fetch("""
        with key as (
            select source.relname as source, target.relname as target,
                target.relkind = 'p' or target.relispartition as pinned,
                (select bool_and(attname = 'clinic_id') from pg_attribute
                    where attrelid = conrelid and attnum = conkey[1]
                        or attrelid = confrelid and attnum = confkey[1]) as led,
                exists (select from pg_attribute where attrelid in (conrelid, confrelid)
                    and attname = 'clinic_id') as of_clinic
            from pg_constraint
            join pg_class as source on source.oid = conrelid
            join pg_class as target on target.oid = confrelid
            where contype = 'f' and conparentid = 0
        )
        select source, target, pinned, of_clinic and not led as free
        from key
    """)
    pairs = {(each["source"], each["target"]): each for each in keys}
    assert len(pairs) > len(FREE_KEYS)
    same(((each["source"], each["target"]) for each in keys if each["free"]), FREE_KEYS)
    same((pair for pair, each in pairs.items() if each["pinned"]), ())


async def check_uniques_are_led_by_the_clinic(db: Connection) -> None:
    """A unique key without the clinic would tell one clinic what another has."""
    uniques = await db.fetch("""
        select relname, indisprimary,
            (select attname from pg_attribute where attrelid = indrelid and attnum = indkey[0])
                as led_by,
            exists (select from pg_attribute where attrelid = indrelid and attname = 'clinic_id')
                as of_clinic
        from pg_index join pg_class as c on c.oid = indrelid
        where indisunique and relnamespace = 'public'::regnamespace
    """)
    free = [each for each in uniques if each["of_clinic"] and each["led_by"] != "clinic_id"]
    same(((each["relname"], each["led_by"]) for each in free), FREE_UNIQUES)
    keyed = {each["relname"] for each in uniques if each["indisprimary"]}
    tables = await db.fetch(
        "select relname from pg_class"
        " where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
    )
    same((each["relname"] for each in tables), keyed)
    exclusions = await db.fetch(
        "select conrelid::regclass::text, conname from pg_constraint where contype = 'x'"
    )
    same(map(tuple, exclusions), EXCLUSIONS)


async def check_clinic_comes_by_itself(db: Connection) -> None:
    """Inserts do not name the clinic: the column's default does."""
    columns = await db.fetch("""
        select relname, attnotnull, pg_get_expr(adbin, adrelid) as given
        from pg_attribute join pg_class as c on c.oid = attrelid
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attname = 'clinic_id' and relkind in ('r', 'p') and relname <> 'clinic'
            and relnamespace = 'public'::regnamespace
    """)
    astray = [
        each for each in columns if not each["attnotnull"] or each["given"] != "current_clinic()"
    ]
    same((each["relname"] for each in astray), ())


async def check_what_is_cut_is_kept_up(db: Connection) -> None:
    """What is cut by range stands in the list that upkeep reads, and has room for tomorrow."""
    cut = await db.fetch("""
        select relname, partstrat = 'r' as by_range,
            (select count(*) from pg_inherits where inhparent = c.oid) as parts
        from pg_partitioned_table join pg_class as c on c.oid = partrelid
    """)
    listed = await db.fetch("select table_name from partitioned")
    same((each["relname"] for each in cut if each["by_range"]), CUT_BY_RANGE)
    same((each["table_name"] for each in listed), CUT_BY_RANGE)
    same((each["relname"] for each in cut if each["parts"] < 3), ())


async def check_views_obey_walls(db: Connection) -> None:
    views = await db.fetch(f"""
        select relname, relkind, coalesce(reloptions, '{{}}') as options
        from pg_class join pg_namespace as n on n.oid = relnamespace
        where relkind in ('v', 'm', 'f') and {_NOT_OURS}
    """)  # noqa: S608 - our own words
    invoker = {"security_invoker=true", "security_invoker=on"}
    astray = [
        each for each in views if each["relkind"] != b"v" or not invoker & set(each["options"])
    ]
    same((each["relname"] for each in astray), ())


async def check_nothing_reads_the_servers_clock(db: Connection) -> None:
    texts = await db.fetch(f"""
        select proname as name, pg_get_functiondef(p.oid) as text
        from pg_proc as p join pg_namespace as n on n.oid = pronamespace where {_NOT_OURS}
        union all
        select adrelid::regclass::text, pg_get_expr(adbin, adrelid) from pg_attrdef
        union all
        select tablename, concat_ws(' ', qual, with_check) from pg_policies
        union all
        select conname, pg_get_constraintdef(oid) from pg_constraint where contype in ('c', 'x')
        union all
        select viewname, definition from pg_views where schemaname = 'public'
    """)  # noqa: S608 - our own words
    astray = [each for each in texts if CLOCK.search(re.sub("--.*", "", each["text"]))]
    same((each["name"] for each in astray), BY_THE_SERVERS_CLOCK)
    assert len(texts) > 100


async def check_only_the_core_is_needed(db: Connection) -> None:
    same(
        (row["extname"] for row in await db.fetch("select extname from pg_extension")), {"plpgsql"}
    )
