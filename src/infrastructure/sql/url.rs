//! `DATABASE_URL`: which database, and where.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The place of a database. Never shows a password.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A database on a PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

/// The parameters that a PostgreSQL URL may have: those of libpq that the driver knows, under
/// libpq's names. An unknown one is refused, because it may ask for more safety than there is.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

impl FromStr for DatabaseUrl {
    type Err = String;

    /// The URL itself may hold a password and is never repeated.
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return postgres(url);
        }
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
        match path {
            Some(path) if path.contains('?') => Err("parameters after a `?` are not supported".to_owned()),
            Some(path) if !path.is_empty() && path != ":memory:" => Ok(Self::Sqlite(path.into())),
            _ => {
                Err("must be sqlite:PATH, with the path of a file, or postgres://USER:PASSWORD@HOST/DATABASE"
                    .to_owned())
            }
        }
    }
}

fn postgres(url: &str) -> Result<DatabaseUrl, String> {
    // The half of a password that was cut at such a character would pass for a port and for the
    // name of a parameter or a database, and be repeated in messages.
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    if url.contains('#') || rest.split_once(['/', '?']).is_some_and(|(_, after)| after.contains('@')) {
        return Err("in a name or a password `?` is written %3F, `#` %23, `/` %2F and `@` %40".to_owned());
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let names = || query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or(pair));
    if let Some(unknown) = names().find(|name| !PARAMETERS.contains(name) && !name.starts_with("options[")) {
        return Err(format!("the parameter {unknown:?} is not known; known are {}", PARAMETERS.join(", ")));
    }
    let options: PgConnectOptions = url.parse().map_err(|error| match error {
        // What the driver says of a parameter names its value, and that may be secret.
        sqlx::Error::Configuration(_) if names().any(|name| name == "sslmode") => {
            "is no URL of PostgreSQL; sslmode is one of disable, allow, prefer, require, verify-ca, verify-full"
                .to_owned()
        }
        _ => "is no URL of PostgreSQL such as postgres://USER:PASSWORD@HOST:5432/DATABASE".to_owned(),
    })?;
    // libpq's manual on sslmode: with a root certificate, require verifies like verify-ca.
    let verifies = matches!(options.get_ssl_mode(), PgSslMode::Require) && names().any(|name| name == "sslrootcert");
    let options = if verifies { options.ssl_mode(PgSslMode::VerifyCa) } else { options };
    Ok(DatabaseUrl::Postgres(Box::new(options)))
}

/// What may be shown to anybody.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(options) => {
                let database = options.get_database().unwrap_or_else(|| options.get_username());
                write!(f, "postgres://{}@", options.get_username())?;
                match options.get_socket() {
                    Some(socket) => write!(f, "{}/{database}", socket.display()),
                    None => write!(f, "{}:{}/{database}", options.get_host(), options.get_port()),
                }
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
