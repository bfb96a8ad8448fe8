//! What a query costs, however large the projection is: one walk down a primary key for each key
//! that is looked for. Held against the plans that the databases themselves make, for the
//! statements, the keys and the sessions of the service.

use std::time::Duration;

use lockstream::infrastructure::sql::Dialect;
use lockstream::infrastructure::sql::line::Role;
use lockstream::infrastructure::sql::postgres::PostgresPlace;
use lockstream::infrastructure::sql::rows::Keys;
use lockstream::infrastructure::sql::sqlite::SqlitePlace;
use lockstream::infrastructure::sql::tables::{COMPARTMENTS, Cell, LOCKERS, RESERVATIONS, Table};
use lockstream::infrastructure::sql::url::DatabaseUrl;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres, Row, Sqlite, SqliteConnection};

use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;

/// How many reservations there are in a small and in a large projection.
const SMALL: u64 = 1_000;
const LARGE: u64 = 1_000_000;
/// How many keys one statement looks for: a lone query's, and a full group's.
const GROUPS: [u64; 2] = [1, 256];

/// One kind of query.
struct Query {
    of: &'static Table,
    table: &'static str,
    key_columns: &'static [&'static str],
    /// One of the table's rows stands for so many reservations.
    share: u64,
    key: fn(u64) -> Vec<String>,
}

fn queries() -> [Query; 3] {
    [
        Query { of: &LOCKERS, table: "lockers", key_columns: &["locker_id"], share: 100, key: |n| vec![locker(n)] },
        Query {
            of: &COMPARTMENTS,
            table: "compartments",
            key_columns: &["locker_id", "compartment_id"],
            share: 5,
            key: |n| vec![locker(n / 20), format!("door-{}", n % 20)],
        },
        Query {
            of: &RESERVATIONS,
            table: "reservations",
            key_columns: &["reservation_id"],
            share: 1,
            key: |n| vec![format!("parcel-{}", 1_000_000_000 + n)],
        },
    ]
}

fn locker(number: u64) -> String {
    format!("locker-{}", 1_000_000_000 + number)
}

impl Query {
    /// Keys from all over the table, as the service sends them.
    fn keys(&self, reservations: u64, group: u64) -> Keys {
        let rows = reservations / self.share;
        let group = group.min(rows);
        let cells = (0..group).flat_map(|n| (self.key)(n * rows / group));
        Keys { table: self.of, cells: cells.map(|text| Cell::Text(text.into())).collect() }
    }
}

/// A database with the tables that the service made, and a checkpoint.
async fn started_once(folder: &Folder) {
    let server = Server::start(folder).await;
    server.accept(&[registered("first", "A1")]).await;
    assert_eq!(server.get("/lockers/first").await.status, 200);
    assert!(server.stop().success());
}

/// Adds rows: so many reservations, for five of them a compartment, for a hundred a locker.
async fn fill(folder: &Folder, reservations: u64) {
    let numbers = |count: u64| {
        let last = count - 1;
        format!("WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})")
    };
    let (lockers, compartments, reservations) =
        (numbers(reservations / 100), numbers(reservations / 5), numbers(reservations));
    folder
        .execute(&format!(
            "{lockers} INSERT INTO lockers SELECT 'locker-' || (1000000000 + n), 20, 0, 0, '{:064}' FROM numbers;
             {compartments} INSERT INTO compartments
             SELECT 'locker-' || (1000000000 + n / 20), 'door-' || (n % 20), n % 7 = 0, NULL FROM numbers;
             {reservations} INSERT INTO reservations
             SELECT 'parcel-' || (1000000000 + n), 'CREATED' FROM numbers",
            0
        ))
        .await;
}

/// A session as the service's queries use it.
async fn session<D: Dialect>(place: &D::Place) -> D::Connection {
    D::connect(place, Role::Reader, Duration::from_secs(10)).await.unwrap()
}

#[tokio::test]
async fn postgresql_walks_one_index_for_each_key_whatever_it_knows_of_the_tables() {
    let [small, large] = [pages_on_postgres(SMALL).await, pages_on_postgres(LARGE).await];
    for ((query, small), large) in queries().iter().zip(small).zip(large) {
        // The index has grown by a level at most: a thousand times the rows cost one page more.
        assert!(small >= 2.0, "{}: an index and a table page at least, and not {small}", query.table);
        assert!(large <= small + 1.0, "{}: {small} pages a key at {SMALL}, {large} at {LARGE}", query.table);
    }
}

/// Checks all plans at one size; returns how many pages each kind of query touches for one key.
async fn pages_on_postgres(reservations: u64) -> [f64; 3] {
    let folder = Folder::on_postgres();
    started_once(&folder).await;
    let DatabaseUrl::Postgres(options) = folder.postgres().url().parse().unwrap() else { unreachable!() };
    let place = PostgresPlace::live(&options);
    // What the server knows of the tables changes only when this test says so.
    for Query { table, .. } in queries() {
        folder.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    let mut early = session::<Postgres>(&place).await;
    check_on_postgres(&mut early, reservations, "with empty tables").await;
    fill(&folder, reservations).await;
    check_on_postgres(&mut early, reservations, "with plans made when the tables were empty").await;
    let mut later = session::<Postgres>(&place).await;
    check_on_postgres(&mut later, reservations, "without statistics").await;
    folder.execute("ANALYZE").await;
    let mut latest = session::<Postgres>(&place).await;
    let pages = check_on_postgres(&mut latest, reservations, "with fresh statistics").await;
    for connection in [early, later, latest] {
        connection.close().await.unwrap();
    }
    pages
}

async fn check_on_postgres(connection: &mut PgConnection, reservations: u64, when: &str) -> [f64; 3] {
    let mut pages = [0.0; 3];
    for (query, pages) in queries().iter().zip(&mut pages) {
        let Query { of, table, key_columns, .. } = query;
        for group in GROUPS {
            let keys = query.keys(reservations, group);
            let statement = Postgres::finding(of, keys.count());
            // As the service runs it: prepared, and planned for whatever keys may come.
            Postgres::fetch(connection, statement, Some(&keys)).await.unwrap();
            let planned = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1";
            let planned = sqlx::query(planned).bind(statement).fetch_one(&mut *connection).await.unwrap();
            let (generic, custom): (i64, i64) = (planned.get(0), planned.get(1));
            assert!(generic > 0 && custom == 0, "{when}: {table} is planned for its keys");

            let plan = explain_on_postgres(connection, table, statement, &keys.to_json()).await;
            let text = format!("{when}, {reservations} reservations, {group} keys: {plan:#}");
            let nodes = nodes(&plan[0]["Plan"]);
            let of = |relation: &str| nodes.iter().filter(|node| node["Relation Name"] == relation).collect::<Vec<_>>();
            let named: Vec<_> = nodes.iter().filter_map(|node| node["Relation Name"].as_str()).collect();
            assert_eq!(named.len(), of(table).len() + of("checkpoint").len(), "{text}");
            for node in of(table).into_iter().chain(of("checkpoint")) {
                let index = format!("{}_pkey", node["Relation Name"].as_str().unwrap());
                assert_eq!((&node["Node Type"], &node["Index Name"]), (&"Index Scan".into(), &index.into()), "{text}");
                assert!(node["Filter"].is_null(), "{text}");
            }
            let [lookup] = of(table)[..] else { panic!("one lookup: {text}") };
            let condition = lookup["Index Cond"].as_str().unwrap();
            assert!(key_columns.iter().all(|column| condition.contains(&format!("{column} = "))), "{text}");
            let number = |name: &str| lookup[name].as_f64().unwrap();
            let loops = group.min(reservations / query.share);
            assert_eq!(lookup["Actual Loops"], loops, "{text}");
            *pages = (number("Shared Hit Blocks") + number("Shared Read Blocks")) / number("Actual Loops");
        }
    }
    pages
}

/// The plan of a prepared statement, and what running it took.
async fn explain_on_postgres(connection: &mut PgConnection, name: &str, statement: &str, keys: &str) -> Value {
    let prepared = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = $1)";
    if !sqlx::query_scalar::<_, bool>(prepared).bind(name).fetch_one(&mut *connection).await.unwrap() {
        let prepare = format!("PREPARE {name} (text) AS {statement}");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await.unwrap();
    }
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) EXECUTE {name} ('{keys}')");
    let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(connection).await.unwrap();
    serde_json::from_str(row.try_get_unchecked(0).unwrap()).unwrap()
}

/// A plan's node and all below it.
fn nodes(node: &Value) -> Vec<&Value> {
    let below = node["Plans"].as_array().into_iter().flatten();
    std::iter::once(node).chain(below.flat_map(nodes)).collect()
}

#[tokio::test]
async fn sqlite_walks_one_tree_for_each_key_by_the_same_program_whatever_the_size() {
    let [small, large] = [ways_on_sqlite(SMALL).await, ways_on_sqlite(LARGE).await];
    for ((query, (small, small_levels)), (large, large_levels)) in queries().iter().zip(small).zip(large) {
        assert_eq!(small, large, "{}", query.table);
        // A walk touches one page on each level: a thousand times the rows cost two pages more.
        let levels = format!("{}: {small_levels} levels at {SMALL}, {large_levels} at {LARGE}", query.table);
        assert!((1..=small_levels + 2).contains(&large_levels), "{levels}");
    }
}

/// For each kind of query its programs, without statistics and with fresh ones, and how many pages
/// there are from the root of the table's tree to its leaves.
async fn ways_on_sqlite(reservations: u64) -> Vec<([Vec<String>; 2], i64)> {
    let folder = Folder::on_sqlite();
    started_once(&folder).await;
    fill(&folder, reservations).await;
    let place = SqlitePlace::writable(&folder.database());
    let mut connection = session::<Sqlite>(&place).await;
    let without = check_on_sqlite(&mut connection, reservations, "without statistics").await;
    connection.close().await.unwrap();
    folder.execute("ANALYZE").await;
    let mut connection = session::<Sqlite>(&place).await;
    let with = check_on_sqlite(&mut connection, reservations, "with fresh statistics").await;
    let mut ways = Vec::new();
    for (Query { table, .. }, programs) in queries().iter().zip(without.into_iter().zip(with)) {
        let levels = "SELECT max(length(path) - length(replace(path, '/', ''))) FROM dbstat WHERE name = $1";
        let levels = sqlx::query_scalar(levels).bind(*table).fetch_one(&mut connection).await.unwrap();
        ways.push((programs.into(), levels));
    }
    connection.close().await.unwrap();
    ways
}

/// Checks all plans; returns the programs of each kind of query.
async fn check_on_sqlite(connection: &mut SqliteConnection, reservations: u64, when: &str) -> Vec<Vec<String>> {
    let mut programs = Vec::new();
    for query in queries() {
        let Query { of, table, key_columns, .. } = query;
        for group in GROUPS {
            let keys = query.keys(reservations, group);
            let statement = Sqlite::finding(of, keys.count());
            let found = Sqlite::fetch(connection, statement, Some(&keys)).await.unwrap();
            assert_eq!(found.len(), 1 + keys.count(), "the checkpoint and a row for each key; {when}: {table}");

            let plan = explain_on_sqlite(connection, "EXPLAIN QUERY PLAN", statement).await;
            let text = format!("{when}, {reservations} reservations, {group} keys: {plan:#?}");
            let columns = key_columns.iter().map(|column| format!("{column}=?")).collect::<Vec<_>>().join(" AND ");
            let lookup = format!("SEARCH {table} USING PRIMARY KEY ({columns})");
            assert_eq!(plan.iter().filter(|step| step.contains(&lookup)).count(), 1, "{text}");
            // From one end to the other it goes through the keys alone.
            let mut scanned = plan.iter().filter_map(|step| Some(step.split_once("SCAN ")?.1));
            let are_keys = ["CONSTANT ROW", "VALUES CLAUSE", "(subquery-"];
            let is_of_keys = |what: &str| are_keys.iter().any(|keys| what.contains(keys));
            assert!(scanned.all(is_of_keys), "{text}");
        }
        let mut program = Vec::new();
        for group in GROUPS {
            let statement = Sqlite::finding(of, group.try_into().unwrap());
            program.extend(explain_on_sqlite(connection, "EXPLAIN", statement).await);
        }
        programs.push(program);
    }
    programs
}

/// What SQLite says it will do, a step a line.
async fn explain_on_sqlite(connection: &mut SqliteConnection, explain: &str, statement: &str) -> Vec<String> {
    let explain = format!("{explain} {statement}");
    let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(connection).await.unwrap();
    let cell = |row: &SqliteRow, at| row.try_get_unchecked::<Option<String>, _>(at).unwrap();
    let cells = |row| (0..SqliteRow::len(row)).filter_map(move |at| cell(row, at));
    let line = |row| cells(row).collect::<Vec<_>>().join(" ");
    rows.iter().map(line).collect()
}
