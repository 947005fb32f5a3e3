//! What the vault's role may do in its database.

use sqlx::Row;

use crate::fixture::Fixture;

/// Every right to every table, column and function of the schema that the role has, and that not
/// everybody has.
const RIGHTS: &str = "
    select format('%s %s: %s', case relkind when 'v' then 'view' else 'table' end, relname,
                  coalesce(string_agg(lower(right_name), ', ' order by right_name)
                      filter (where has_table_privilege($1, c.oid, right_name)), 'nothing'))
    from pg_class c,
         unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
             as right_name
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
      and not relispartition
    group by relkind, relname
    union all
    select format('column %s.%s: %s', relname, attname, string_agg(lower(right_name), ', '
                                                                    order by right_name))
    from pg_class c join pg_attribute a on attrelid = c.oid and attnum > 0,
         unnest(array['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) as right_name
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
      and not has_table_privilege($1, c.oid, right_name)
      and has_column_privilege($1, c.oid, attnum, right_name)
    group by relname, attname
    union all
    select format('function %s: execute', p.oid::regprocedure)
    from pg_proc p
    where pronamespace = 'public'::regnamespace and has_function_privilege($1, p.oid, 'execute')
    union all
    select format('schema public: %s', lower(right_name))
    from unnest(array['USAGE', 'CREATE']) as right_name
    where has_schema_privilege($1, 'public', right_name)
    order by 1";

#[tokio::test]
async fn the_rights_of_the_vaults_role_are_those_of_the_list() {
    let fixture = Fixture::new("rights").await;
    let rows = sqlx::query(RIGHTS)
        .bind(&fixture.database.runtime_role)
        .fetch_all(&fixture.sql)
        .await
        .unwrap();
    let rights: String = rows
        .iter()
        .map(|row| row.get::<String, _>(0) + "\n")
        .collect();
    let golden = include_str!("../golden/runtime-rights.txt");
    assert!(
        rights == golden,
        "these rights are not those of vault/tests/golden/runtime-rights.txt:\n{rights}"
    );
}
