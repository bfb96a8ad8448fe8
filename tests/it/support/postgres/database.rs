//! A database of a test's own, dropped with it, and what tests ask of it.

use std::path::PathBuf;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::time::timeout;

use crate::support::{PATIENCE, block_on};

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Address {
    pub folder: PathBuf,
    pub port: u16,
}

impl Address {
    /// A database by the server's socket.
    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost:{}/{database}?host={}", self.port, self.folder.display())
    }
}

#[derive(Debug)]
pub struct Database {
    address: Address,
    name: String,
}

impl Database {
    pub(super) fn create(address: Address, name: String, options: &str) -> Self {
        let statement = format!("CREATE DATABASE {name} {options}");
        block_on(execute(&address.url("postgres"), &statement)).unwrap_or_else(|error| panic!("{statement}: {error}"));
        Self { address, name }
    }

    /// One that is there already.
    pub(super) fn at(address: Address, name: &str) -> Self {
        Self { address, name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// By the server's socket.
    pub fn url(&self) -> String {
        self.address.url(&self.name)
    }

    /// By TCP.
    pub fn tcp_url(&self) -> String {
        self.url_at(self.tcp_port())
    }

    /// By somebody who hands on what comes to this port.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{}", self.name)
    }

    pub fn tcp_port(&self) -> u16 {
        self.address.port
    }

    pub async fn connect(&self) -> PgConnection {
        timeout(PATIENCE, PgConnection::connect(&self.url())).await.expect("PostgreSQL answers").unwrap()
    }

    /// Runs statements that give nothing.
    pub async fn execute(&self, statements: &str) {
        execute(&self.url(), statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The rows of a query.
    pub async fn query(&self, query: &str) -> Vec<PgRow> {
        let mut connection = self.connect().await;
        let rows = timeout(PATIENCE, sqlx::query(AssertSqlSafe(query)).fetch_all(&mut connection));
        let rows = rows.await.expect("PostgreSQL answers").unwrap_or_else(|error| panic!("{query}: {error}"));
        connection.close().await.unwrap();
        rows
    }

    /// The one value of a query.
    pub async fn value<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.query(query).await.first().unwrap_or_else(|| panic!("{query}: no row")).get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that is stopped or gone has nothing to drop.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = block_on(execute(&self.address.url("postgres"), &statement));
    }
}

async fn execute(url: &str, statements: &str) -> Result<(), sqlx::Error> {
    let executing = async {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await?;
        connection.close().await
    };
    timeout(PATIENCE, executing).await.unwrap_or_else(|late| Err(sqlx::Error::Io(late.into())))
}

/// The options that make a database order its texts by language rather than by bytes, as far as the
/// server can.
pub(super) async fn linguistic_options(address: &Address) -> &'static str {
    let choices = [
        (
            "SELECT current_setting('server_version_num')::int >= 150000 AND collprovider = 'i' FROM pg_collation \
             WHERE collname = 'en-US-x-icu'",
            "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
        ),
        ("SELECT true FROM pg_collation WHERE collname = 'en_US.utf8'", "TEMPLATE template0 LOCALE 'en_US.utf8'"),
    ];
    let mut connection = PgConnection::connect(&address.url("postgres")).await.unwrap();
    for (possible, options) in choices {
        let rows = sqlx::query(possible).fetch_all(&mut connection).await.unwrap();
        if rows.first().is_some_and(|row| row.get(0)) {
            return options;
        }
    }
    ""
}
